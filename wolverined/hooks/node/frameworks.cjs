// SPDX-License-Identifier: MIT
// Where each framework shows us the errors that it turns into answers. Nothing stands in the way of a request that
// goes well: what is wrapped is on the path of an error, or (Koa) lets the stack look as if it were not there.
"use strict";

const { finished, note, defer, onUnfinished } = require("./monitor.cjs");
const { attempt, deeper, shallower } = require("./errors.cjs");
const { find } = require("./requests.cjs");

function safely(work) {
  return attempt(work, undefined);
}

// ---------------------------------------------------------------- seeing a module when it has been loaded

const WANTED =
  /\/(?:lib\/router\/layer|router\/lib\/layer|lib\/application|exceptions\/exceptions-handler)\.js$/;

// Wrapping the loader would put us into the stack of everything that is thrown while a module loads. A module is
// entered into the cache before it runs and marked `loaded` after: nothing of ours is on the stack in between.
function watchModules() {
  const Module = require("module");
  Module._cache = new Proxy(Module._cache, {
    set(cache, file, module) {
      if (typeof file === "string" && WANTED.test(file)) {
        safely(() => whenLoaded(module));
      }
      return Reflect.set(cache, file, module);
    },
  });
}

function whenLoaded(module) {
  let loaded = module.loaded;
  Object.defineProperty(module, "loaded", {
    configurable: true,
    enumerable: true,
    get: () => loaded,
    set(value) {
      Object.defineProperty(module, "loaded", { configurable: true, enumerable: true, writable: true, value });
      loaded = value;
      if (value) {
        safely(() => adapt(module.exports));
      }
    },
  });
}

// By what a module is, not by the name under which it was installed.
function adapt(exported) {
  const proto = typeof exported === "function" ? exported.prototype : undefined;
  if (proto && typeof proto.handle_error === "function") {
    adaptLayer(proto, "handle_error"); // Express 4
  } else if (proto && typeof proto.handleError === "function" && typeof proto.handleRequest === "function") {
    adaptLayer(proto, "handleError"); // Express 5
  } else if (exported && typeof exported.init === "function" && typeof exported.defaultConfiguration === "function") {
    adaptExpress(exported);
  } else if (proto && typeof proto.createContext === "function" && typeof proto.handleRequest === "function") {
    adaptKoa(proto);
  } else if (exported && exported.ExceptionsHandler && typeof exported.ExceptionsHandler.prototype.next === "function") {
    adaptNest(exported.ExceptionsHandler.prototype);
  }
}

function replace(target, name, value) {
  Object.defineProperty(target, name, { configurable: true, enumerable: true, writable: true, value });
}

// Call a function of the application's, and see what it throws or rejects with.
function watch(work, self, args, see, first) {
  const limit = deeper(2);
  try {
    safely(() => first !== undefined && see(first));
    const result = Reflect.apply(work, self, args);
    if (!(result instanceof Promise)) {
      return result;
    }
    // Handed on in its place: who handles this one, or forgets to, does so with that one.
    return result.then(undefined, (error) => {
      safely(() => see(error));
      throw error;
    });
  } catch (error) {
    safely(() => see(error));
    throw error;
  } finally {
    shallower(limit);
  }
}

// ---------------------------------------------------------------- Express

// An error passes every layer behind the one that it came out of.
function adaptLayer(proto, name) {
  const original = proto[name];
  replace(proto, name, function handle_error(error, request, response, next) {
    // "route" and "router" are no errors: they leave a route or a router.
    if (error !== "route" && error !== "router") {
      safely(() => note(request, error));
    }
    const limit = deeper(1);
    try {
      return original.call(this, error, request, response, next);
    } finally {
      shallower(limit);
    }
  });
}

const APPS_MAX = 100;
const seated = new WeakSet();
let unseated = [];

// Each application is made by a call of `init`; what it is made of comes later, so it is looked at with a request.
function adaptExpress(proto) {
  const { init } = proto;
  replace(proto, "init", function wolverineInit(...told) {
    const result = init.apply(this, told);
    if (unseated.length < APPS_MAX) {
      unseated.push(this);
    }
    return result;
  });
}

// The last layer: it takes nothing, but there is always one behind the layer that an error came out of.
function last(error, request, response, next) {
  next(error);
}

function onRequest() {
  if (unseated.length > 0) {
    const apps = unseated;
    unseated = [];
    apps.forEach((app) => safely(() => seat(app)));
  }
}

function seat(app) {
  if (typeof app !== "function" || typeof app.handle !== "function" || typeof app.use !== "function") {
    return;
  }
  if (!seated.has(app)) {
    seated.add(app);
    app.use(last);
    return;
  }
  // Layers that came later stand behind it.
  const { stack } = app._router || app.router;
  const at = stack.findIndex((layer) => layer.handle === last);
  if (at >= 0 && at < stack.length - 1) {
    stack.push(...stack.splice(at, 1));
  }
}

// ---------------------------------------------------------------- Koa

function adaptKoa(proto) {
  const { callback, emit } = proto;
  replace(proto, "emit", function wolverineEmit(event, ...told) {
    if (event === "error") {
      safely(() => onKoaError(told[0], told[1]));
    }
    return emit.call(this, event, ...told);
  });
  replace(proto, "callback", function wolverineCallback() {
    safely(() => watchMiddleware(this.middleware));
    return callback.call(this);
  });
}

// Koa makes an error of its own out of what is none; what was thrown has been seen by then.
function onKoaError(error, context) {
  if (!context || (String(error.message).startsWith("non-error thrown") && find(context.req)?.errors)) {
    return;
  }
  note(context.req, error, context._matchedRoute);
}

const watched = new WeakSet();

// In place: who holds the list may add to it later.
function watchMiddleware(middleware) {
  middleware.forEach((work, at) => {
    if (typeof work === "function" && !watched.has(work) && work.constructor.name !== "GeneratorFunction") {
      middleware[at] = new Proxy(work, { apply });
      watched.add(middleware[at]);
    }
  });
}

function apply(work, self, args) {
  const [context] = args;
  safely(() => {
    const entry = find(context.req);
    if (entry !== undefined && entry.context === null) {
      entry.context = context;
    }
  });
  return watch(work, self, args, (error) => note(context.req, error, context._matchedRoute));
}

// ---------------------------------------------------------------- NestJS

// Nest catches what a controller throws before its HTTP framework could.
function adaptNest(proto) {
  const { next } = proto;
  replace(proto, "next", function wolverineNext(exception, host) {
    safely(() => {
      if (host.getType() === "http") {
        const request = host.getArgByIndex(0);
        note(request.raw || request, exception);
      }
    });
    return next.call(this, exception, host);
  });
}

// ---------------------------------------------------------------- Fastify

// It announces each instance before the application gets it.
function onFastify({ fastify }) {
  const route = (request) => (request.routeOptions ? request.routeOptions.url : undefined);
  fastify.addHook("onError", (request, reply, error, done) => {
    safely(() => note(request.raw, error, route(request)));
    done();
  });
  // The route is known to the hooks only, and one in front of the handler would show in its stacks.
  fastify.addHook("onResponse", (request, reply, done) => {
    safely(() => finished(request.raw, route(request)));
    done();
  });
  defer(fastify.server);
  const { setErrorHandler } = fastify;
  // The hook sees what is sent as an error; an error handler of the application's sends what it likes.
  fastify.setErrorHandler = function wolverineSetErrorHandler(handler, ...rest) {
    const watching = typeof handler === "function" ? new Proxy(handler, { apply: handle }) : handler;
    return setErrorHandler.call(this, watching, ...rest);
  };

  function handle(handler, self, args) {
    const [first, request] = args;
    return watch(handler, self, args, (error) => note(request.raw, error, route(request)), first);
  }
}

// ---------------------------------------------------------------- the start

const channels = []; // Node itself holds a channel only weakly

function subscribe(name, work) {
  const channel = require("diagnostics_channel").channel(name);
  channel.subscribe((told) => {
    try {
      work(told);
    } catch {
      // Whatever it was, it is not the application's trouble; and a closure for each request would cost it.
    }
  });
  channels.push(channel);
}

function start() {
  subscribe("fastify.initialization", onFastify);
  onUnfinished((request) => safely(() => seat(request.app)));
  safely(watchModules);
}

module.exports = { onRequest, start, subscribe };
