// SPDX-License-Identifier: MIT
// Preloaded into a supervised Node application (NODE_OPTIONS=--require). It tells the supervisor which errors were
// answered with a 5xx, how requests fare, and which were in flight when the process dies; ../README.md has the protocol.
//
// Three promises to the application: nothing here throws into it, nothing here changes a request or a response,
// nothing here keeps its event loop alive. So every entry point is guarded, and without a socket nothing happens.
"use strict";

function guarded(work) {
  return (...told) => {
    try {
      work(...told);
    } catch {
      // Whatever it was, it is not the application's trouble.
    }
  };
}

function start() {
  const wire = require("./wire.cjs");
  const frameworks = require("./frameworks.cjs");
  const monitor = require("./monitor.cjs");
  const talk = require("./talk.cjs");
  const { isMainThread } = require("worker_threads");
  // Made at the start, while there are file descriptors to be had.
  if (isMainThread) {
    wire.connect();
    // Only watches: whether the process dies, and with which code, stays as it was. A worker thread shares the
    // process: its uncaught error reaches the main thread.
    const crash = require("./crash.cjs");
    process.on("uncaughtExceptionMonitor", guarded(crash.onCrash));
    crash.watchRejections(guarded);
    talk.supplySend();
  }
  // Node announces each request of http and https servers here, before any listener of the application sees it.
  let ticking = isMainThread;
  frameworks.subscribe("http.server.request.start", (told) => {
    if (!ticking) {
      ticking = true;
      monitor.start(); // a thread without a server has nothing to tell
    }
    frameworks.onRequest();
    monitor.onStart(told);
  });
  frameworks.subscribe("http.server.response.finish", monitor.onFinish);
  frameworks.start();
  talk.listenToConsole();
  if (isMainThread) {
    monitor.start();
  }
}

if (process.env.WOLVERINE_REPORT_SOCKET) {
  guarded(start)();
}
