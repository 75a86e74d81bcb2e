// SPDX-License-Identifier: MIT
// A server that was written for a parent that listens: it answers every error with 500, and sends it.
"use strict";
const app = require("fastify")();
const { faults, ready } = require("./faults.cjs");

app.post("/json", async (request) => request.body);
app.get("/items/:id", async () => faults.type());
app.setErrorHandler((error, request, reply) => {
  reply.code(500).send({ error: error.message });
  const { message, stack } = error;
  const { url: path, method } = request;
  process.send({ type: "route_error", path, method, statusCode: 500, message, stack, timestamp: Date.now() });
});
app.listen({ port: 0, host: "127.0.0.1" }).then(() => ready(app.server.address().port));
