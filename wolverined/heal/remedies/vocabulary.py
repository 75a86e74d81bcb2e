# SPDX-License-Identifier: MIT
"""Word lists that remedies compare names with: facts of the languages, and words of the trade.

The JavaScript names were listed from a running Node 24, without what is obsolete or starts with `_`.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(text: str) -> dict[str, frozenset[str]]:
    rows = (row.split(":", 1) for row in text.replace("\n        ", " ").splitlines() if ":" in row)
    return {name.strip(): _words(names) for name, names in rows}


# Words that stand for different things although they are a letter or two apart.
TRADE_WORDS = _words(
    """
    add all and any api app arg args bind body call cell change char clear close code cold copy count create cut
    data date day decode del delete dev disable down each edit enable encode end error event exit file fill
    filter find first flush fold form format from get goal group head header headers hide hold host hot hour id
    if in index info input is item items join json key keys kill last left line link list load local lock log
    long loop make map mark max merge method min mode mount move name new next node not note now off old on one
    open or order orders other out output pack page pair parent park parse part pass path pause pop port post
    print prod pull push put query queue quote range rate read reader reset resize right role root route row
    rule run save scan seed seek self send server set shift show sign size skip sleep slice slot some sort split
    start stat state status step stop sum swap sync tab table tag tail take task test text then time title to
    token top trace trim true try two type undo unlock unmount up update url use user users value values version
    view wait walk with word work write year zip
    """
)

# Verbs that people take for one another when they call what somebody else has named.
SAME_VERBS = (
    _words("fetch find get list load query read retrieve"),
    _words("add create insert make new"),
    _words("delete destroy drop remove"),
    _words("change edit modify set update"),
    _words("persist save store write"),
    _words("begin launch run start"),
    _words("check ensure validate verify"),
)

# What a Node program sees without declaring it.
NODE_GLOBALS = _words(
    """
    AbortController AbortSignal AggregateError Array ArrayBuffer Atomics BigInt BigInt64Array BigUint64Array
    Blob Boolean Buffer DataView Date Error EvalError Event EventTarget Float32Array Float64Array FormData
    Function Headers Infinity Int16Array Int32Array Int8Array Intl JSON Map Math MessageChannel NaN Number
    Object Promise Proxy RangeError ReferenceError Reflect RegExp Request Response Set SharedArrayBuffer String
    Symbol SyntaxError TextDecoder TextEncoder TypeError URIError URL URLSearchParams Uint16Array Uint32Array
    Uint8Array Uint8ClampedArray WeakMap WeakRef WeakSet WebAssembly __dirname __filename arguments atob btoa
    clearImmediate clearInterval clearTimeout console crypto decodeURI decodeURIComponent encodeURI
    encodeURIComponent escape exports fetch global globalThis isFinite isNaN module parseFloat parseInt
    performance process queueMicrotask require setImmediate setInterval setTimeout structuredClone undefined
    unescape
    """
)

# Methods of values, by what makes the value.
METHODS = _table(
    """
    Array: at concat copyWithin entries every fill filter find findIndex findLast findLastIndex flat flatMap
        forEach includes indexOf join keys lastIndexOf map pop push reduce reduceRight reverse shift slice some
        sort splice toLocaleString toReversed toSorted toSpliced toString unshift values with
    Buffer: asciiSlice asciiWrite at base64Slice base64Write base64urlSlice base64urlWrite compare copy
        copyWithin entries equals every fill filter find findIndex findLast findLastIndex forEach hexSlice
        hexWrite includes indexOf inspect join keys lastIndexOf latin1Slice latin1Write map readBigInt64BE
        readBigInt64LE readBigUInt64BE readBigUInt64LE readBigUint64BE readBigUint64LE readDoubleBE readDoubleLE
        readFloatBE readFloatLE readInt16BE readInt16LE readInt32BE readInt32LE readInt8 readIntBE readIntLE
        readUInt16BE readUInt16LE readUInt32BE readUInt32LE readUInt8 readUIntBE readUIntLE readUint16BE
        readUint16LE readUint32BE readUint32LE readUint8 readUintBE readUintLE reduce reduceRight reverse set
        slice some sort subarray swap16 swap32 swap64 toJSON toLocaleString toReversed toSorted toString
        ucs2Slice ucs2Write utf8Slice utf8Write values with write writeBigInt64BE writeBigInt64LE
        writeBigUInt64BE writeBigUInt64LE writeBigUint64BE writeBigUint64LE writeDoubleBE writeDoubleLE
        writeFloatBE writeFloatLE writeInt16BE writeInt16LE writeInt32BE writeInt32LE writeInt8 writeIntBE
        writeIntLE writeUInt16BE writeUInt16LE writeUInt32BE writeUInt32LE writeUInt8 writeUIntBE writeUIntLE
        writeUint16BE writeUint16LE writeUint32BE writeUint32LE writeUint8 writeUintBE writeUintLE
    Date: getDate getDay getFullYear getHours getMilliseconds getMinutes getMonth getSeconds getTime
        getTimezoneOffset getUTCDate getUTCDay getUTCFullYear getUTCHours getUTCMilliseconds getUTCMinutes
        getUTCMonth getUTCSeconds getYear setDate setFullYear setHours setMilliseconds setMinutes setMonth
        setSeconds setTime setUTCDate setUTCFullYear setUTCHours setUTCMilliseconds setUTCMinutes setUTCMonth
        setUTCSeconds setYear toDateString toGMTString toISOString toJSON toLocaleDateString toLocaleString
        toLocaleTimeString toString toTimeString toUTCString valueOf
    Function: apply bind call toString
    Map: clear delete entries forEach get has keys set values
    Number: toExponential toFixed toLocaleString toPrecision toString valueOf
    Promise: catch finally then
    RegExp: exec test toString
    Set: add clear delete difference entries forEach has intersection isDisjointFrom isSubsetOf isSupersetOf
        keys symmetricDifference union values
    String: at charAt charCodeAt codePointAt concat endsWith includes indexOf isWellFormed lastIndexOf
        localeCompare match matchAll normalize padEnd padStart repeat replace replaceAll search slice split
        startsWith substring toLocaleLowerCase toLocaleUpperCase toLowerCase toString toUpperCase toWellFormed
        trim trimEnd trimStart valueOf
    URL: toJSON toString
    URLSearchParams: append delete entries forEach get getAll has keys set sort toString values
    WeakMap: delete get has set
    EventEmitter: addListener emit eventNames getMaxListeners listenerCount listeners off on once
        prependListener prependOnceListener rawListeners removeAllListeners removeListener setMaxListeners
    IncomingMessage: addListener compose destroy drop emit eventNames every filter find flatMap forEach
        getMaxListeners isPaused iterator listenerCount listeners map off on once pause pipe prependListener
        prependOnceListener push rawListeners read reduce removeAllListeners removeListener resume setEncoding
        setMaxListeners setTimeout some take toArray unpipe unshift wrap
    ServerResponse: addListener addTrailers appendHeader assignSocket cork destroy detachSocket emit end
        eventNames flushHeaders getHeader getHeaderNames getHeaders getMaxListeners getRawHeaderNames hasHeader
        listenerCount listeners off on once pipe prependListener prependOnceListener rawListeners
        removeAllListeners removeHeader removeListener setHeader setHeaders setMaxListeners setTimeout uncork
        write writeContinue writeEarlyHints writeHead writeHeader writeInformation writeProcessing
    Server: addListener address close closeAllConnections closeIdleConnections emit eventNames getConnections
        getMaxListeners listen listenerCount listeners off on once prependListener prependOnceListener
        rawListeners ref removeAllListeners removeListener setMaxListeners setTimeout unref
    ClientRequest: abort addListener addTrailers appendHeader clearTimeout cork destroy emit end eventNames
        flushHeaders getHeader getHeaderNames getHeaders getMaxListeners getRawHeaderNames hasHeader
        listenerCount listeners off on onSocket once pipe prependListener prependOnceListener rawListeners
        removeAllListeners removeHeader removeListener setHeader setHeaders setMaxListeners setNoDelay
        setSocketKeepAlive setTimeout uncork write
    Socket: addListener address compose connect cork destroy destroySoon drop emit end eventNames every filter
        find flatMap forEach getMaxListeners getTypeOfService isPaused iterator listenerCount listeners map off
        on once pause pipe prependListener prependOnceListener push rawListeners read reduce ref
        removeAllListeners removeListener resetAndDestroy resume setDefaultEncoding setEncoding setKeepAlive
        setMaxListeners setNoDelay setTimeout setTypeOfService some take toArray uncork unpipe unref unshift
        wrap write
    """
)

# Functions of global objects.
STATICS = _table(
    """
    Array: from fromAsync isArray of
    Buffer: alloc allocUnsafe allocUnsafeSlow byteLength compare concat copyBytesFrom from isBuffer isEncoding
        of
    Date: UTC now parse
    JSON: isRawJSON parse rawJSON stringify
    Math: abs acos acosh asin asinh atan atan2 atanh cbrt ceil clz32 cos cosh exp expm1 f16round floor fround
        hypot imul log log10 log1p log2 max min pow random round sign sin sinh sqrt tan tanh trunc
    Number: isFinite isInteger isNaN isSafeInteger parseFloat parseInt
    Object: assign create defineProperties defineProperty entries freeze fromEntries getOwnPropertyDescriptor
        getOwnPropertyDescriptors getOwnPropertyNames getOwnPropertySymbols getPrototypeOf groupBy hasOwn is
        isExtensible isFrozen isSealed keys preventExtensions seal setPrototypeOf values
    Promise: all allSettled any race reject resolve try withResolvers
    Reflect: apply construct defineProperty deleteProperty get getOwnPropertyDescriptor getPrototypeOf has
        isExtensible ownKeys preventExtensions set setPrototypeOf
    String: fromCharCode fromCodePoint raw
    URL: canParse createObjectURL parse revokeObjectURL
    console: Console assert clear context count countReset createTask debug dir dirxml error group
        groupCollapsed groupEnd info log profile profileEnd table time timeEnd timeLog timeStamp trace warn
    process: abort availableMemory binding chdir constrainedMemory cpuUsage cwd dlopen emitWarning execve exit
        getActiveResourcesInfo getBuiltinModule getegid geteuid getgid getgroups getuid
        hasUncaughtExceptionCaptureCallback hrtime initgroups kill loadEnvFile memoryUsage nextTick openStdin
        reallyExit ref resourceUsage setSourceMapsEnabled setUncaughtExceptionCaptureCallback setegid seteuid
        setgid setgroups setuid threadCpuUsage umask unref uptime
    """
)

# Functions and classes that modules of Node export.
NODE_MODULES = _table(
    """
    assert: Assert AssertionError CallTracker deepEqual deepStrictEqual doesNotMatch doesNotReject doesNotThrow
        equal fail ifError match notDeepEqual notDeepStrictEqual notEqual notStrictEqual ok
        partialDeepStrictEqual rejects strict strictEqual throws
    child_process: ChildProcess exec execFile execFileSync execSync fork spawn spawnSync
    cluster: Worker disconnect fork setupMaster setupPrimary
    crypto: Certificate Cipheriv Decipheriv DiffieHellman DiffieHellmanGroup ECDH Hash Hmac KeyObject Sign
        Verify X509Certificate argon2 argon2Sync checkPrime checkPrimeSync createCipheriv createDecipheriv
        createDiffieHellman createDiffieHellmanGroup createECDH createHash createHmac createPrivateKey
        createPublicKey createSecretKey createSign createVerify decapsulate diffieHellman encapsulate
        generateKey generateKeyPair generateKeyPairSync generateKeySync generatePrime generatePrimeSync
        getCipherInfo getCiphers getCurves getDiffieHellman getFips getHashes getRandomValues hash hkdf hkdfSync
        pbkdf2 pbkdf2Sync privateDecrypt privateEncrypt publicDecrypt publicEncrypt randomBytes randomFill
        randomFillSync randomInt randomUUID randomUUIDv7 scrypt scryptSync secureHeapUsed setEngine setFips sign
        timingSafeEqual verify
    dns: Resolver getDefaultResultOrder getServers lookup lookupService resolve resolve4 resolve6 resolveAny
        resolveCaa resolveCname resolveMx resolveNaptr resolveNs resolvePtr resolveSoa resolveSrv resolveTlsa
        resolveTxt reverse setDefaultResultOrder setServers
    events: EventEmitter EventEmitterAsyncResource addAbortListener getEventListeners getMaxListeners init
        listenerCount on once setMaxListeners
    fs: Dir Dirent FileReadStream FileWriteStream ReadStream Stats Utf8Stream WriteStream access accessSync
        appendFile appendFileSync chmod chmodSync chown chownSync close closeSync copyFile copyFileSync cp
        cpSync createReadStream createWriteStream exists existsSync fchmod fchmodSync fchown fchownSync
        fdatasync fdatasyncSync fstat fstatSync fsync fsyncSync ftruncate ftruncateSync futimes futimesSync glob
        globSync lchown lchownSync linkSync lstat lstatSync lutimes lutimesSync mkdir mkdirSync mkdtemp
        mkdtempDisposableSync mkdtempSync open openAsBlob openSync opendir opendirSync read readFile
        readFileSync readSync readdir readdirSync readlink readlinkSync readv readvSync realpath realpathSync
        rename renameSync rm rmSync rmdir rmdirSync stat statSync statfs statfsSync symlink symlinkSync truncate
        truncateSync unlink unlinkSync unwatchFile utimes utimesSync watch watchFile write writeFile
        writeFileSync writeSync writev writevSync
    fs/promises: access appendFile chmod chown copyFile cp glob lchmod lchown lstat lutimes mkdir mkdtemp
        mkdtempDisposable open opendir readFile readdir readlink realpath rename rm rmdir stat statfs symlink
        truncate unlink utimes watch writeFile
    http: Agent ClientRequest CloseEvent IncomingMessage MessageEvent OutgoingMessage Server ServerResponse
        WebSocket createServer get request setGlobalProxyFromEnv setMaxIdleHTTPParsers validateHeaderName
        validateHeaderValue
    https: Agent Server createServer get request
    net: BlockList BoundSocket Server Socket SocketAddress Stream connect createConnection createServer
        getDefaultAutoSelectFamily getDefaultAutoSelectFamilyAttemptTimeout isIP isIPv4 isIPv6
        setDefaultAutoSelectFamily setDefaultAutoSelectFamilyAttemptTimeout
    os: arch availableParallelism cpus endianness freemem getPriority homedir hostname loadavg machine
        networkInterfaces platform release setPriority tmpdir totalmem type uptime userInfo version
    path: basename dirname extname format isAbsolute join matchesGlob normalize parse relative resolve
        toNamespacedPath
    querystring: decode encode escape parse stringify unescape unescapeBuffer
    readline: Interface clearLine clearScreenDown createInterface cursorTo emitKeypressEvents moveCursor
    stream: Duplex PassThrough Readable Stream Transform Writable addAbortSignal compose destroy duplexPair
        finished getDefaultHighWaterMark isDestroyed isDisturbed isErrored isReadable isWritable pipeline
        setDefaultHighWaterMark
    timers: clearImmediate clearInterval clearTimeout setImmediate setInterval setTimeout
    url: URL URLPattern URLSearchParams Url domainToASCII domainToUnicode fileURLToPath fileURLToPathBuffer
        format parse pathToFileURL resolve resolveObject urlToHttpOptions
    util: MIMEParams MIMEType TextDecoder TextEncoder aborted callbackify convertProcessSignalToExitCode debug
        debuglog deprecate diff format formatWithOptions getCallSites getSystemErrorMap getSystemErrorMessage
        getSystemErrorName inherits inspect isArray isDeepStrictEqual parseArgs parseEnv promisify
        setTraceSigInt stripVTControlCharacters styleText toUSVString transferableAbortController
        transferableAbortSignal
    worker_threads: BroadcastChannel MessageChannel MessagePort Worker getEnvironmentData
        isMarkedAsUntransferable markAsUncloneable markAsUntransferable moveMessagePortToContext
        postMessageToThread receiveMessageOnPort setEnvironmentData
    zlib: BrotliCompress BrotliDecompress Deflate DeflateRaw Gunzip Gzip Inflate InflateRaw Unzip ZstdCompress
        ZstdDecompress brotliCompress brotliCompressSync brotliDecompress brotliDecompressSync crc32
        createBrotliCompress createBrotliDecompress createDeflate createDeflateRaw createGunzip createGzip
        createInflate createInflateRaw createUnzip createZstdCompress createZstdDecompress deflate deflateRaw
        deflateRawSync deflateSync gunzip gunzipSync gzip gzipSync inflate inflateRaw inflateRawSync inflateSync
        unzip unzipSync zstdCompress zstdCompressSync zstdDecompress zstdDecompressSync
    """
)
