// SPDX-License-Identifier: MIT
"use strict";
require("./routes_koa.cjs")(require("koa"), require("@koa/router"));
