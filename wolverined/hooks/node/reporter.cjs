// SPDX-License-Identifier: MIT
// Preloaded into a supervised Node application (NODE_OPTIONS=--require). When the process dies of an uncaught
// error it tells the supervisor which requests were in flight; see ../README.md for the protocol.
//
// Three promises to the application: nothing here throws into it, nothing here changes a request or a response,
// nothing here keeps its event loop alive. So every entry point is guarded, and without a socket nothing happens.
"use strict";

const BODY_MAX = 16 * 1024;
const LINE_MAX = 60 * 1024; // the other end takes 64 KiB
const TRACKED_MAX = 1000;
const TOLD_MAX = 8;
const SEND_MS = 200;

// ---------------------------------------------------------------- requests in flight

const inFlight = new Set();

function onRequest({ request, response }) {
  if (!request || !response || inFlight.size >= TRACKED_MAX) {
    return;
  }
  // Frameworks rewrite `url` while they route; what was sent is what can be sent again.
  const entry = { request, method: request.method, url: request.url, chunks: [], size: 0, cut: false };
  entry.hasBody = request.rawHeaders.some(
    (name, at) => at % 2 === 0 && /^(content-length|transfer-encoding)$/i.test(name),
  );
  inFlight.add(entry);
  response.once("close", () => inFlight.delete(entry));
  if (entry.hasBody) {
    observeBody(request, entry);
  }
}

// The parser hands each piece of a body to `push`. Looking at it there consumes nothing: the stream stays
// paused, flowing or piped, just as the application has it.
function observeBody(request, entry) {
  const push = request.push;
  const observe = guarded((chunk) => keep(entry, chunk));
  Object.defineProperty(request, "push", {
    configurable: true,
    enumerable: false,
    writable: true,
    value(chunk, encoding) {
      observe(chunk);
      return push.call(this, chunk, encoding);
    },
  });
}

function keep(entry, chunk) {
  if (!chunk || entry.cut) {
    return;
  }
  const room = BODY_MAX - entry.size;
  entry.cut = chunk.length > room;
  // A copy: the application may write into the memory that it was given.
  const kept = Buffer.from(chunk.subarray(0, room));
  entry.chunks.push(kept);
  entry.size += kept.length;
}

function describe(entry) {
  const headers = {};
  const raw = entry.request.rawHeaders;
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at].toLowerCase();
    headers[name] = name in headers ? `${headers[name]}, ${raw[at + 1]}` : raw[at + 1];
  }
  const truncated = entry.cut || (entry.hasBody && !entry.request.complete);
  const body = text(Buffer.concat(entry.chunks), truncated);
  return {
    method: entry.method,
    path: entry.url,
    headers,
    body: body === null ? "" : body,
    truncated: truncated || body === null, // what is no text cannot be told in JSON
  };
}

function text(bytes, cut) {
  try {
    // `stream` lets a character that was cut in two go.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: cut });
  } catch {
    return null;
  }
}

// ---------------------------------------------------------------- the connection

const path = process.env.WOLVERINE_REPORT_SOCKET;
let socket = null;

// Made at the start, while there are file descriptors to be had. On a Unix socket connect(2) is done at once,
// so the descriptor can be written to even if the event loop never gets to run.
function connect() {
  const made = require("net").connect(path);
  made.unref();
  made.on("error", () => {}); // no supervisor there: nobody to tell
  made.on("close", () => {
    if (socket === made) {
      socket = null;
    }
  });
  made.resume(); // that the other side has gone is noticed only by reading
  socket = made;
}

function descriptor() {
  return socket && socket._handle && socket._handle.fd >= 0 ? socket._handle.fd : -1;
}

// Written at once, not through the event loop, which is about to end.
function send(line) {
  const bytes = Buffer.from(line);
  if (!write(bytes)) {
    connect(); // the supervisor was restarted in the meantime
    write(bytes);
  }
}

function write(bytes) {
  const { writeSync } = require("fs");
  const until = Date.now() + SEND_MS;
  for (let sent = 0; sent < bytes.length; ) {
    try {
      sent += writeSync(descriptor(), bytes, sent);
    } catch (error) {
      if (error.code !== "EAGAIN" || Date.now() > until) {
        return sent > 0; // half a line is lost; a second one would only garble it
      }
    }
  }
  return true;
}

// ---------------------------------------------------------------- the end

function onCrash(error, origin) {
  const report = {
    type: "crash",
    name: attempt(() => nameOf(error), "Error"),
    message: attempt(() => messageOf(error).slice(0, 4096), ""),
    stack: attempt(() => stackOf(error).slice(0, 16384), ""),
    requests: [],
    pid: process.pid,
    timestamp: Date.now(),
    origin: String(origin),
    handled: process.listenerCount("uncaughtException") > 0,
  };
  let line = JSON.stringify(report);
  // The youngest first: it is the likeliest to be the one.
  for (const entry of [...inFlight].reverse().slice(0, TOLD_MAX)) {
    const told = describe(entry);
    report.requests.push(told);
    let longer = JSON.stringify(report);
    if (Buffer.byteLength(longer) > LINE_MAX) {
      told.body = "";
      told.truncated = true;
      longer = JSON.stringify(report);
    }
    if (Buffer.byteLength(longer) > LINE_MAX) {
      break;
    }
    line = longer;
  }
  send(`${line}\n`);
}

// Node prints the name with which the stack begins; a later change of `name` does not touch it. Above it may
// stand the place of a syntax error.
function nameOf(error) {
  if (!error || typeof error.stack !== "string") {
    return "Uncaught";
  }
  const begin = error.stack.split("\n    at ", 1)[0];
  const found = /^([A-Za-z_$][\w$.]*)(?: \[[^\]\n]*\])?(?::|$)/m.exec(begin.replace(/^[^\n]*:\d+\n[^]*?\n\n/, ""));
  return (found ? found[1] : String(error.name || "Error")).slice(0, 200);
}

function messageOf(error) {
  if (error && typeof error === "object" && "message" in error) {
    return String(error.message);
  }
  return typeof error === "string" ? error : require("util").inspect(error, { depth: 1, breakLength: Infinity });
}

// With the causes as Node prints them, so that one parser reads both.
function stackOf(error) {
  let stack = error && error.stack ? String(error.stack) : "";
  const causes = [];
  for (let cause = error && error.cause; cause && cause.stack && causes.length < 4; cause = cause.cause) {
    causes.push(String(cause.stack));
  }
  causes.forEach((cause, depth) => {
    const indent = "  ".repeat(depth + 1);
    stack += ` {\n${indent}[cause]: ${cause.replace(/\n/g, `\n${indent}`)}`;
  });
  for (let depth = causes.length - 1; depth >= 0; depth -= 1) {
    stack += `\n${"  ".repeat(depth)}}`;
  }
  return stack;
}

// ---------------------------------------------------------------- the start

function guarded(work) {
  return (...told) => {
    try {
      work(...told);
    } catch {
      // Whatever it was, it is not the application's trouble.
    }
  };
}

// An error is the application's object: asking it for its stack may throw.
function attempt(work, otherwise) {
  try {
    return work();
  } catch {
    return otherwise;
  }
}

// A worker thread shares the process: its uncaught error reaches the main thread, which reports it.
function isMainThread() {
  return require("worker_threads").isMainThread;
}

// Node announces each request of http and https servers here, before any listener of the application sees it.
// Subscribing patches nothing. The channel stays in a variable: Node itself holds it only weakly.
let started;

guarded(() => {
  if (!path || !isMainThread()) {
    return;
  }
  connect();
  started = require("diagnostics_channel").channel("http.server.request.start");
  started.subscribe(guarded(onRequest));
  // Only watches: whether the process dies, and with which code, stays as it was.
  process.on("uncaughtExceptionMonitor", guarded(onCrash));
})();
