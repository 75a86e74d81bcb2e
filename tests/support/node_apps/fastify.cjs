// SPDX-License-Identifier: MIT
"use strict";
require("./routes_fastify.cjs")(require("fastify"));
