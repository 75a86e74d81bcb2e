// SPDX-License-Identifier: MIT
// Speaks pm2's own API for the bench, so that the start of its client is in no figure.
// usage: node pm2_agent.cjs PM2-PACKAGE; a line "stop" or "restart" on stdin does that to the app.
// Tells {"exit": ms} of every exit that pm2 announces, {"sent": ns} when it asks, {"done": true} after the answer.
"use strict";
const pm2 = require(process.argv[2]);
const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const must = (error) => {
  if (error) {
    tell({ error: String(error.message || error) });
    process.exit(1);
  }
};
pm2.connect((error) => {
  must(error);
  pm2.launchBus((failed, bus) => {
    must(failed);
    bus.on("process:event", (packet) => packet.event === "exit" && tell({ exit: packet.at }));
    tell({ ready: true });
  });
});
require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (word) => {
    tell({ sent: Number(process.hrtime.bigint()) });
    pm2[word]("app", (error) => tell(error ? { error: String(error.message || error) } : { done: true }));
  })
  .on("close", () => process.exit(0));
