// SPDX-License-Identifier: MIT
// The end of the process by an uncaught error, told with the requests in flight.
"use strict";

const { attempt, messageOf, nameOf, stackOf } = require("./errors.cjs");
const { describe, inFlight, over } = require("./requests.cjs");
const { LINE_MAX, tellNow } = require("./wire.cjs");

const TOLD_MAX = 8;

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
  const open = [...inFlight.values()].filter((entry) => !over(entry));
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
  tellNow(`${line}\n`);
}

module.exports = { onCrash };
