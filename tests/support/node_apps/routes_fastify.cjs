// SPDX-License-Identifier: MIT
"use strict";
const { faults, broken, half, ready } = require("./faults.cjs");

module.exports = (fastify) => {
  const app = fastify();
  app.get("/ok", async () => "fine");
  app.register(
    async (shop) => {
      shop.get("/items/:id", async (request) => ({ id: request.params.id }));
      for (const [name, fault] of Object.entries(faults)) {
        shop.all(`/${name}/:id`, async () => (await fault()) || "never");
      }
    },
    { prefix: "/shop" },
  );
  app.post("/json", async (request) => request.body);
  app.get("/stream", (request, reply) => reply.send(broken()));
  app.get("/half", (request, reply) => reply.send(half()));
  app.get("/wait", (request) => {
    request.raw.socket.on("close", () => console.error("gone"));
  });
  app.register(
    async (angry) => {
      angry.setErrorHandler(() => {
        throw new EvalError("the handler fails, too");
      });
      angry.get("/handler", () => faults.type());
    },
    { prefix: "/angry" },
  );
  app.register(
    async (calm) => {
      calm.setErrorHandler((error, request, reply) => {
        reply.code(error.statusCode || 500).send({ said: error.message, stack: error.stack });
      });
      calm.get("/:id", () => faults.type());
      calm.get("/told/:id", () => faults.client());
    },
    { prefix: "/calm" },
  );
  app.listen({ port: 0, host: "127.0.0.1" }).then(() => ready(app.server.address().port));
};
