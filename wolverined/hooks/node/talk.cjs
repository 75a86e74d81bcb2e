// SPDX-License-Identifier: MIT
// What the application itself says: `process.send` of a report, as servers do that know a supervising parent, and
// errors on the console. Both go on to where they went without us.
"use strict";

const { attempt } = require("./errors.cjs");
const { onSpoken, onTold } = require("./monitor.cjs");

function isReport(message) {
  return (
    message !== null && typeof message === "object" && message.type === "route_error" && typeof message.path === "string"
  );
}

// With a channel to a parent (a cluster's worker), the message goes there as well: the parent may listen.
function supplySend() {
  const original = process.send;
  const send = function send(message, ...rest) {
    if (isReport(message)) {
      attempt(() => onTold(message));
    }
    if (typeof original === "function") {
      return original.call(this, message, ...rest);
    }
    const done = rest.find((each) => typeof each === "function");
    if (done !== undefined) {
      process.nextTick(done, null);
    }
    return true;
  };
  Object.defineProperty(process, "send", { configurable: true, enumerable: true, writable: true, value: send });
}

function listenToConsole() {
  const { error } = console;
  const listening = function (...words) {
    attempt(() => {
      const spoken = words.find((each) => each instanceof Error);
      if (spoken !== undefined) {
        onSpoken(spoken);
      }
    });
    return error.apply(this, words);
  };
  Object.defineProperty(listening, "name", { value: error.name, configurable: true });
  console.error = listening;
}

module.exports = { listenToConsole, supplySend };
