// SPDX-License-Identifier: MIT
"use strict";
const { faults, broken, half, ready } = require("./faults.cjs");

async function body(ctx) {
  let text = "";
  for await (const piece of ctx.req) {
    text += piece;
  }
  return text;
}

module.exports = (Koa, Router) => {
  const app = new Koa();
  app.silent = true;
  app.use(async (ctx, next) => {
    if (!ctx.path.startsWith("/calm")) {
      return next();
    }
    try {
      await next();
    } catch (error) {
      ctx.status = error.status || 500;
      ctx.body = { said: error.message, stack: error.stack };
    }
  });
  app.use(async (ctx, next) => {
    if (!ctx.path.startsWith("/angry")) {
      return next();
    }
    try {
      await next();
    } catch {
      throw new EvalError("the handler fails, too");
    }
  });
  const router = new Router();
  router.get("/ok", (ctx) => {
    ctx.body = "fine";
  });
  router.get("/shop/items/:id", (ctx) => {
    ctx.body = { id: ctx.params.id };
  });
  for (const [name, fault] of Object.entries(faults)) {
    router.all(`/shop/${name}/:id`, async (ctx) => {
      ctx.body = (await fault()) || "never";
    });
  }
  router.post("/json", async (ctx) => {
    try {
      ctx.body = JSON.parse(await body(ctx));
    } catch (error) {
      ctx.throw(400, error.message);
    }
  });
  router.get("/stream", (ctx) => {
    ctx.body = broken();
  });
  router.get("/half", (ctx) => {
    ctx.body = half();
  });
  router.get("/wait", (ctx) => new Promise(() => ctx.req.socket.on("close", () => console.error("gone"))));
  router.get("/angry/handler", () => faults.type());
  router.get("/calm/told/:id", () => faults.client());
  router.get("/calm/:id", () => faults.type());
  app.use(router.routes());
  const server = app.listen(0, "127.0.0.1", () => ready(server.address().port));
};
