// SPDX-License-Identifier: MIT
// What the test applications do wrong: the same in every framework.
"use strict";
const { Worker } = require("node:worker_threads");
const { Readable } = require("node:stream");

exports.faults = {
  type() {
    const order = undefined;
    return order.price; // line 10
  },
  async later() {
    await new Promise((done) => setTimeout(done, 2));
    throw new RangeError("too late", { cause: new TypeError("the root") });
  },
  text() {
    throw "only words";
  },
  circular() {
    const error = new Error("round");
    error.cause = error;
    error.self = { error };
    throw error;
  },
  huge() {
    throw new Error("x".repeat(10 * 1024 * 1024));
  },
  client() {
    throw Object.assign(new Error("no such thing"), { status: 404, statusCode: 404 });
  },
  unavailable() {
    throw Object.assign(new Error("come again"), { status: 503, statusCode: 503 });
  },
  worker() {
    const worker = new Worker('throw new SyntaxError("in a thread")', { eval: true });
    return new Promise((done, fail) => worker.on("error", fail).on("exit", done));
  },
};

exports.broken = () =>
  new Readable({
    read() {
      this.destroy(new Error("the disk is gone"));
    },
  });

exports.half = () => {
  let given = false;
  return new Readable({
    read() {
      if (!given) {
        given = true;
        this.push("begun\n");
      } else {
        setTimeout(() => this.destroy(new Error("in the middle")), 20);
      }
    },
  });
};

exports.ready = (port) => console.log(port);
