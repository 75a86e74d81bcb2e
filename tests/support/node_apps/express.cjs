// SPDX-License-Identifier: MIT
"use strict";
const express = require("express");
const app = require("./routes_express.cjs")(express);
const server = app.listen(0, "127.0.0.1", () => require("./faults.cjs").ready(server.address().port));
