// SPDX-License-Identifier: MIT
// The requests in flight, and what can be told of one so that it can be sent again.
// Looking at a request changes nothing of it: no listener, no property but `push` of one that has a body.
"use strict";

const BODY_MAX = 16 * 1024;
const BODIES_MAX = 1024 * 1024; // of all requests in flight together
const TRACKED_MAX = 1000;

// A replay does without them, and nobody else needs to know them.
const SECRET = /^(?:authorization|proxy-authorization|cookie|set-cookie|x-api-key)$/;

const inFlight = new Map();
let kept = 0;

function enter(request, response, began) {
  if (inFlight.size >= TRACKED_MAX) {
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
  };
  inFlight.set(request, entry);
  if (hasBody(request.rawHeaders)) {
    entry.chunks = [];
    observeBody(request, entry);
  }
  return entry;
}

function leave(entry) {
  inFlight.delete(entry.request);
  kept -= entry.size;
  entry.size = 0;
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
  if (!chunk || entry.cut || !inFlight.has(entry.request)) {
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

module.exports = { describe, enter, inFlight, leave, over };
