// SPDX-License-Identifier: MIT
// The least that a Node server can be.
"use strict";
require("node:http")
  .createServer((request, response) => response.end("ok\n"))
  .listen(process.env.PORT, "127.0.0.1");
