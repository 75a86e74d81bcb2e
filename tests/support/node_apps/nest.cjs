// SPDX-License-Identifier: MIT
// Without a compiler: the decorators are called by hand.
"use strict";
require("reflect-metadata");
const { All, Catch, Controller, Get, HttpException, Module, Param, Post, Req, Res, UseFilters, Body } = require("@nestjs/common");
const { NestFactory } = require("@nestjs/core");
const { faults, broken, half, ready } = require("./faults.cjs");

function route(type, method, decorate, ...params) {
  const descriptor = Object.getOwnPropertyDescriptor(type.prototype, method);
  params.forEach((param, at) => param(type.prototype, method, at));
  decorate(type.prototype, method, descriptor);
  return descriptor;
}

class Shop {
  ok() {
    return "fine";
  }
  item(id) {
    return { id };
  }
  json(body) {
    return body;
  }
  stream(response) {
    return new Promise((done, fail) => broken().on("error", fail).pipe(response));
  }
  half(response) {
    return new Promise((done, fail) => half().on("error", fail).pipe(response, { end: false }));
  }
  wait(request) {
    request.socket.on("close", () => console.error("gone"));
    return new Promise(() => {});
  }
  angry() {
    return faults.type();
  }
  calm() {
    return faults.type();
  }
  told() {
    throw new HttpException("no such thing", 404);
  }
}
for (const [name, fault] of Object.entries(faults)) {
  const method = `fault_${name}`;
  Shop.prototype[method] = async function () {
    if (name === "client") {
      throw new HttpException("no such thing", 404);
    }
    return (await fault()) || "never";
  };
  route(Shop, method, All(`/shop/${name}/:id`));
}
class Angry {
  catch() {
    throw new EvalError("the handler fails, too");
  }
}
Catch()(Angry);
class Calm {
  catch(error, host) {
    const status = error.getStatus ? error.getStatus() : 500;
    host.switchToHttp().getResponse().status(status).json({ said: error.message, stack: error.stack });
  }
}
Catch()(Calm);
route(Shop, "ok", Get("/ok"));
route(Shop, "item", Get("/shop/items/:id"), Param("id"));
route(Shop, "json", Post("/json"), Body());
route(Shop, "stream", Get("/stream"), Res());
route(Shop, "half", Get("/half"), Res());
route(Shop, "wait", Get("/wait"), Req());
UseFilters(new Angry())(Shop.prototype, "angry", route(Shop, "angry", Get("/angry/handler")));
UseFilters(new Calm())(Shop.prototype, "told", route(Shop, "told", Get("/calm/told/:id")));
UseFilters(new Calm())(Shop.prototype, "calm", route(Shop, "calm", Get("/calm/:id")));
Controller()(Shop);

class App {}
Module({ controllers: [Shop] })(App);

NestFactory.create(App, { logger: false }).then(async (app) => {
  await app.listen(0, "127.0.0.1");
  ready(app.getHttpServer().address().port);
});
