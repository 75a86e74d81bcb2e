// SPDX-License-Identifier: MIT
// The connection to the supervisor. A living process writes through its event loop and never waits: what does not
// fit is dropped and counted. A dying one writes at once, for its event loop is about to end.
"use strict";

const LINE_MAX = 60 * 1024; // the other end takes 64 KiB
const WAITING_MAX = 256 * 1024;
const SEND_MS = 200;
const RECONNECT_MS = 1000;

const path = process.env.WOLVERINE_REPORT_SOCKET;
let socket = null;
let waiting = []; // lines that are older than the connection
let waitingSize = 0;
let triedAt = -Infinity;
let dropped = 0;

// On a Unix socket connect(2) is done at once, so the descriptor can be written to even if the event loop never
// gets to run.
function connect() {
  triedAt = performance.now();
  const made = require("net").connect(path);
  made.unref();
  made.on("error", () => {}); // no supervisor there: nobody to tell
  made.on("close", () => {
    if (socket === made) {
      socket = null;
    }
  });
  made.on("connect", () => {
    if (socket === made) {
      flush();
    }
  });
  made.resume(); // that the other side has gone is noticed only by reading
  socket = made;
}

function flush() {
  for (const line of waiting) {
    socket.write(line);
  }
  waiting = [];
  waitingSize = 0;
}

// Told when it can be told; true when it was taken.
function tell(report) {
  const line = fit(report);
  if (line === null) {
    dropped += 1;
    return false;
  }
  return tellLine(line);
}

function tellLine(line) {
  if (socket === null && performance.now() - triedAt >= RECONNECT_MS) {
    connect();
  }
  if (socket !== null && !socket.connecting) {
    if (socket.writableLength + line.length > WAITING_MAX) {
      dropped += 1;
      return false;
    }
    socket.write(line);
    return true;
  }
  if (waitingSize + line.length > WAITING_MAX) {
    dropped += 1;
    return false;
  }
  waiting.push(line);
  waitingSize += line.length;
  return true;
}

// What is largest and least needed goes first.
function fit(report) {
  const steps = [
    (told) => told.request && Object.assign(told.request, { body: "", truncated: true }),
    (told) => told.chain && told.chain.forEach((cause) => Object.assign(cause, { stack: cause.stack.slice(0, 2000) })),
    (told) => told.request && Object.assign(told.request, { headers: {} }),
    (told) => delete told.request,
    (told) => delete told.chain,
  ];
  for (let step = 0; ; step += 1) {
    const line = `${JSON.stringify(report)}\n`;
    if (line.length <= LINE_MAX && Buffer.byteLength(line) <= LINE_MAX) {
      return line;
    }
    if (step >= steps.length) {
      return null;
    }
    steps[step](report);
  }
}

// How many could not be told since the last time that this was asked.
function takeDropped() {
  const count = dropped;
  dropped = 0;
  return count;
}

function descriptor() {
  return socket && socket._handle && socket._handle.fd >= 0 ? socket._handle.fd : -1;
}

// Written at once, not through the event loop.
function tellNow(line) {
  const bytes = Buffer.from(line);
  if (socket !== null && socket.writableLength > 0 && !socket.connecting) {
    connect(); // a line is half written there: what is put behind it would be part of it
  }
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

module.exports = { LINE_MAX, connect, path, takeDropped, tell, tellLine, tellNow };
