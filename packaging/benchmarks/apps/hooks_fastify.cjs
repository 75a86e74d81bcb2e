// SPDX-License-Identifier: MIT
"use strict";
const app = require("fastify")();
app.get("/items/:id", async () => "ok\n");
app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
