// SPDX-License-Identifier: MIT
// The end of the process by an uncaught error, told with the requests in flight.
"use strict";

const { attempt, messageOf, nameOf, stackOf } = require("./errors.cjs");
const { describe, inFlight, over } = require("./requests.cjs");
const { LINE_MAX, tellLine, tellNow } = require("./wire.cjs");

const TOLD_MAX = 8;

function onCrash(error, origin) {
  tellNow(lineOf(error, origin, process.listenerCount("uncaughtException") > 0));
}

// An application that listens for rejections lives on, and only then may we listen, too: the first listener is what
// keeps Node from ending the process.
function watchRejections(guarded) {
  const event = "unhandledRejection";
  const heard = guarded((error) => tellLine(lineOf(error, event, true)));
  process.on(
    "newListener",
    guarded((name, listener) => {
      if (name === event && listener !== heard && !process.listeners(event).includes(heard)) {
        process.on(event, heard);
      }
    }),
  );
  process.on(
    "removeListener",
    guarded((name, listener) => {
      if (name === event && listener !== heard && process.listenerCount(event) === 1) {
        process.removeListener(event, heard);
      }
    }),
  );
}

function lineOf(error, origin, handled) {
  const report = {
    type: "crash",
    name: attempt(() => nameOf(error), "Error"),
    message: attempt(() => messageOf(error).slice(0, 4096), ""),
    stack: attempt(() => stackOf(error).slice(0, 16384), ""),
    requests: [],
    pid: process.pid,
    timestamp: Date.now(),
    origin: String(origin),
    handled,
  };
  let line = JSON.stringify(report);
  // The youngest first: it is the likeliest to be the one.
  const open = inFlight().filter((entry) => !over(entry));
  for (const entry of open.reverse().slice(0, TOLD_MAX)) {
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
  return `${line}\n`;
}

module.exports = { onCrash, watchRejections };
