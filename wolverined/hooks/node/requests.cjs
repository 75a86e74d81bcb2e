// SPDX-License-Identifier: MIT
// The requests in flight, and what can be told of one so that it can be sent again.
// Looking at a request changes nothing of it: no listener, no property but `push` of one that has a body.
"use strict";

const BODY_MAX = 16 * 1024;
const BODIES_MAX = 1024 * 1024; // of all requests in flight together
const TRACKED_MAX = 1000;

// A replay does without them, and nobody else needs to know them.
const SECRET = /^(?:authorization|proxy-authorization|cookie|set-cookie|x-api-key)$/;

// A map from requests would outlive each of its tables in the old heap, and with an old table all requests that stood in
// it; so a request carries its entry itself, in a private field that nobody else can see.
class Carrier extends (function carrier(object) {
  return object;
}) {
  #entry;

  constructor(request, entry) {
    super(request);
    this.#entry = entry;
  }

  static entry(request) {
    const entry = typeof request === "object" && request !== null && #entry in request ? request.#entry : undefined;
    return entry !== undefined && entry.at >= 0 ? entry : undefined;
  }
}

const find = Carrier.entry;
const entries = [];
let kept = 0;

function size() {
  return entries.length;
}

// Those in flight, the oldest first.
function inFlight() {
  return [...entries].sort((one, other) => one.began - other.began);
}

function enter(request, response, began) {
  if (entries.length >= TRACKED_MAX) {
    return null;
  }
  // Frameworks rewrite `url` while they route; what was sent is what can be sent again.
  const entry = {
    request,
    response,
    method: request.method,
    url: request.url,
    began,
    chunks: null,
    size: 0,
    cut: false,
    errors: null,
    route: null,
    context: null,
    at: entries.length,
  };
  new Carrier(request, entry);
  entries.push(entry);
  if (hasBody(request.rawHeaders)) {
    entry.chunks = [];
    observeBody(request, entry);
  }
  return entry;
}

function leave(entry) {
  const moved = entries.pop();
  if (moved !== entry) {
    entries[entry.at] = moved;
    moved.at = entry.at;
  }
  entry.at = -1;
  kept -= entry.size;
}

// What is dead in the old heap keeps alive what it points to.
function forget(entry) {
  entry.request = entry.response = entry.chunks = entry.errors = entry.context = null;
}

// Answered, or its client has gone.
function over(entry) {
  return entry.response.writableFinished || entry.response.destroyed;
}

// Looked at for every request: lengths first, they decide nearly always.
function hasBody(raw) {
  for (let at = 0; at < raw.length; at += 2) {
    const { length } = raw[at];
    if ((length === 14 || length === 17) && /^(?:content-length|transfer-encoding)$/i.test(raw[at])) {
      return true;
    }
  }
  return false;
}

// The parser hands each piece of a body to `push`. Looking at it there consumes nothing: the stream stays
// paused, flowing or piped, just as the application has it.
function observeBody(request, entry) {
  const push = request.push;
  Object.defineProperty(request, "push", {
    configurable: true,
    enumerable: false,
    writable: true,
    value(chunk, encoding) {
      try {
        keep(entry, chunk);
      } catch {
        entry.cut = true; // no memory for a copy: the application's stream goes on
      }
      return push.call(this, chunk, encoding);
    },
  });
}

function keep(entry, chunk) {
  if (!chunk || entry.cut || entry.at < 0) {
    return;
  }
  const room = Math.max(0, Math.min(BODY_MAX - entry.size, BODIES_MAX - kept));
  entry.cut = chunk.length > room;
  // A copy: the application may write into the memory that it was given.
  const part = Buffer.from(chunk.subarray(0, room));
  entry.chunks.push(part);
  entry.size += part.length;
  kept += part.length;
}

function describe(entry) {
  const headers = {};
  const raw = entry.request.rawHeaders;
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at].toLowerCase();
    if (!SECRET.test(name)) {
      headers[name] = name in headers ? `${headers[name]}, ${raw[at + 1]}` : raw[at + 1];
    }
  }
  const truncated = entry.cut || (entry.chunks !== null && !entry.request.complete);
  const body = text(Buffer.concat(entry.chunks || []), truncated);
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

module.exports = { describe, enter, find, forget, inFlight, leave, over, size };
