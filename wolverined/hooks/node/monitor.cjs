// SPDX-License-Identifier: MIT
// Which answers were errors, and why. Whoever sees an error of a request notes it; what the answer is decides, when
// it is written, whether it is told: once, whatever number of layers noted it, and never for an answer below 500.
"use strict";

const { attempt, causesOf, describe: describeError, ownFrame, withoutUs } = require("./errors.cjs");
const { describe, enter, find, forget, inFlight, leave, over, size } = require("./requests.cjs");
const { takeDropped, tell } = require("./wire.cjs");

const TICK_MS = 1000;
const PENDING_MS = 1000;
const NOTED_MAX = 4;
const ROUTES_MAX = 60;
const SAMPLES_MAX = 5;
const MEMO_MAX = 256;
const RECENT_MAX = 32;
const ERRORS = { burst: 40, perTick: 10 }; // of this process; the supervisor hears all processes of an application
const BOUNDS = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 60000, 86400000];

const worker = clusterWorker();
const deferred = new WeakSet(); // servers whose framework tells the route after the answer
let anyDeferred = false;
let tokens = ERRORS.burst;
let overRate = 0;
let recent = [];
let spoken = null;
let unfinished = () => {};
let second = fresh();

// Without a channel to a parent it is no cluster's worker, and the module need not be loaded.
function clusterWorker() {
  const { worker: self } = process.channel ? require("cluster") : {};
  return self ? self.id : null;
}

function fresh() {
  return { count: 0, errors: 0, buckets: new Array(BOUNDS.length).fill(0), routes: new Map(), sample: [], sampled: "" };
}

// ---------------------------------------------------------------- what happens to a request

function onStart({ request, response }) {
  enter(request, response, performance.now());
}

function onFinish({ request, response, server }) {
  const entry = find(request);
  if (entry === undefined) {
    count(null, request.method, response.statusCode, "(untracked)");
  } else if (!anyDeferred || !deferred.has(server)) {
    settle(entry, response.statusCode);
  }
}

function finished(request, route) {
  const entry = find(request);
  if (entry !== undefined) {
    entry.route = route || entry.route;
    settle(entry, entry.response.statusCode);
  }
}

// Frameworks call this for each error that they see of a request; `route` is their pattern, if they have one.
function note(request, error, route) {
  if (error === null || error === undefined) {
    return;
  }
  withoutUs(error);
  const entry = find(request);
  if (entry === undefined) {
    return;
  }
  entry.route = route || entry.route;
  entry.errors = entry.errors || [];
  if (!entry.errors.includes(error) && entry.errors.length < NOTED_MAX) {
    entry.errors.push(error);
  }
}

// An error that is printed in the same turn of the event loop in which a request without any framework's word is
// answered with a 5xx: that is as much as can be known of plain `http`.
function onSpoken(error) {
  const before = new Set();
  for (const entry of inFlight()) {
    if (entry.response.headersSent) {
      before.add(entry);
    }
  }
  spoken = { error, before };
  setImmediate(() => {
    spoken = null;
  }).unref();
}

function settle(entry, status) {
  leave(entry);
  try {
    judge(entry, status);
  } finally {
    forget(entry);
  }
}

function judge(entry, status) {
  const ms = performance.now() - entry.began;
  const route = entry.route || routeOf(entry);
  count(entry, entry.method, status, route, ms);
  if (status < 500) {
    if (status >= 400) {
      remember(entry, status, null);
    }
    return;
  }
  if (entry.errors === null && spoken !== null && !spoken.before.has(entry)) {
    entry.errors = [spoken.error];
    spoken = null;
  }
  if (entry.errors !== null && attempt(() => isClients(entry.errors[entry.errors.length - 1]), false)) {
    remember(entry, 400, null);
    return;
  }
  if (entry.errors === null) {
    unfinished(entry.request);
    remember(entry, status, null);
    return;
  }
  report(entry, status, route);
}

// What a framework itself says is the client's doing, such as a body that is no JSON, is no fault of the application's
// when its handler answers everything with 500. The status alone says less: it may be that of a server behind.
function isClients(error) {
  const { statusCode, status = statusCode, expose, code, name } = error;
  const said = expose === true || name === "SyntaxError" || (typeof code === "string" && code.startsWith("FST_"));
  return status >= 400 && status < 500 && said;
}

// The newest error is the one that the answer came of; an earlier one led to it (it was in the error handler).
function report(entry, status, route) {
  const [error, ...earlier] = [...entry.errors].reverse();
  const told = error instanceof Told ? error.report : describeError(error);
  remember(entry, status, told.message);
  if (tokens < 1) {
    overRate += 1;
    return;
  }
  tokens -= 1;
  const request = describe(entry);
  const [path, query] = divide(entry.url);
  const chain = [...(error instanceof Told ? [] : causesOf(error))];
  for (const each of earlier) {
    chain.push(each instanceof Told ? each.report : describeError(each));
  }
  const where = told.file ? { file: told.file, line: told.line } : frameOf(told, chain);
  tell({
    type: "route_error",
    path,
    method: entry.method,
    statusCode: status,
    name: told.name,
    message: told.message,
    stack: told.stack,
    ...where,
    timestamp: Date.now(),
    route,
    chain: chain.slice(0, NOTED_MAX),
    request: { ...request, query },
    pid: process.pid,
    worker,
  });
}

function frameOf(told, chain) {
  for (const each of [told, ...chain]) {
    const found = ownFrame(each.stack || "");
    if (found.file !== null) {
      return found;
    }
  }
  return { file: null, line: null };
}

// ---------------------------------------------------------------- what the application tells itself

// What an application reports of its own accord, in place of an error object.
class Told {
  constructor(report) {
    this.report = report;
  }
}

// An application's own report of an error: of a request in flight it is one more that noted it; of one that was just
// answered it is known already, or was no error. Otherwise it is passed on as it came.
function onTold(message) {
  const text = (value, most) => (typeof value === "string" ? value.slice(0, most) : "");
  const [path, query] = divide(text(message.path, 4096));
  const method = text(message.method, 20).toUpperCase() || "GET";
  const name = describeError({ stack: text(message.stack, 8192), message: "" }).name;
  const told = {
    name: text(message.name, 200) || name,
    message: text(message.message, 4096),
    stack: text(message.stack, 8192),
    file: text(message.file, 4096) || null,
    line: Number.isInteger(message.line) ? message.line : null,
  };
  for (const entry of inFlight().reverse()) {
    if (entry.method === method && divide(entry.url)[0] === path) {
      entry.errors = entry.errors || [new Told(told)];
      return;
    }
  }
  const since = performance.now() - 5000;
  const known = recent.find((each) => each.method === method && each.path === path && each.at > since);
  if (known && (known.status < 500 || known.message === told.message)) {
    return;
  }
  if (tokens < 1) {
    overRate += 1;
    return;
  }
  tokens -= 1;
  const status = Number.isInteger(message.statusCode) ? message.statusCode : 500;
  const route = text(message.route, 200) || normalised(path);
  const asked = { method, path: query ? `${path}?${query}` : path, query, headers: {}, body: "", truncated: true };
  const about = { type: "route_error", path, method, statusCode: status, ...told, timestamp: Date.now(), route };
  tell({ ...about, chain: [], request: asked, pid: process.pid, worker });
}

function remember(entry, status, message) {
  recent.push({ method: entry.method, path: divide(entry.url)[0], status, message, at: performance.now() });
  if (recent.length > RECENT_MAX) {
    recent = recent.slice(-RECENT_MAX / 2);
  }
}

// ---------------------------------------------------------------- routes and counts

function divide(url) {
  const at = url.indexOf("?");
  return at < 0 ? [url, ""] : [url.slice(0, at), url.slice(at + 1)];
}

const VALUE = /^(?:\d+|[0-9a-f]{24}|[0-9a-f]{32,64}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})$/i;
let memo = new Map();

function normalised(url) {
  let route = memo.get(url);
  if (route === undefined) {
    route = divide(url)[0].split("/").map((part) => (VALUE.test(part) ? ":id" : part)).join("/").slice(0, 200);
    if (memo.size >= MEMO_MAX) {
      memo = new Map();
    }
    if (url.length < 256) {
      memo.set(url, route);
    }
  }
  return route;
}

// Express leaves the route that it took at the request, Koa's router at the context. Below which path Express's
// router is mounted is forgotten when an error leaves that router; what the pattern does not cover tells it.
function routeOf(entry) {
  const { route, baseUrl } = entry.request;
  if (route !== undefined && route !== null && route.path !== undefined) {
    const pattern = String(route.path);
    if (/[*?+(){}]/.test(pattern) || typeof route.path !== "string") {
      return `${baseUrl ? normalised(baseUrl) : ""}${pattern}`;
    }
    const asked = normalised(entry.url);
    const parts = asked.split("/");
    const mount = parts.slice(0, Math.max(1, parts.length - pattern.split("/").length + 1)).join("/");
    return pattern === "/" ? asked : `${mount}${pattern}`;
  }
  const matched = entry.context !== null ? entry.context._matchedRoute : undefined;
  return typeof matched === "string" ? matched : normalised(entry.url);
}

function count(entry, method, status, route, ms = 0) {
  const failed = status >= 500 ? 1 : 0;
  second.count += 1;
  second.errors += failed;
  let at = 0;
  while (ms > BOUNDS[at] && at < BOUNDS.length - 1) {
    at += 1;
  }
  second.buckets[at] += 1;
  let methods = second.routes.get(route);
  if (methods === undefined) {
    if (second.routes.size >= ROUTES_MAX) {
      return;
    }
    methods = {};
    second.routes.set(route, methods);
  }
  const part = methods[method] || (methods[method] = { count: 0, errors: 0, ms: 0 });
  part.count += 1;
  part.errors += failed;
  part.ms += ms;
  if (status < 400 && part.count === 1 && entry !== null && entry.response.writableFinished && second.sample.length < SAMPLES_MAX) {
    second.sample.push({ method, path: entry.url.slice(0, 1000), status });
  }
}

// ---------------------------------------------------------------- once a second

function tick(lag) {
  sweep();
  tokens = Math.min(ERRORS.burst, tokens + ERRORS.perTick);
  const { pid } = process;
  const timestamp = Date.now();
  const dropped = takeDropped() + overRate;
  overRate = 0;
  if (second.count > 0 || dropped > 0) {
    tell({ type: "requests", ...summary(), dropped, pid, worker, timestamp });
  }
  const [oldest] = inFlight();
  if (oldest !== undefined && performance.now() - oldest.began > PENDING_MS) {
    const age = Math.round(performance.now() - oldest.began);
    const [path] = divide(oldest.url.slice(0, 4096));
    tell({ type: "pending", method: oldest.method, path, age_ms: age, count: size(), pid });
  }
  tell({ type: "loop", lag_ms: Math.max(0, Math.round(lag)), pid, timestamp });
}

function summary() {
  const done = second;
  second = fresh();
  const histogram = {};
  done.buckets.forEach((many, at) => {
    if (many > 0) {
      histogram[BOUNDS[at]] = many;
    }
  });
  const routes = {};
  for (const [route, methods] of done.routes) {
    for (const [method, part] of Object.entries(methods)) {
      routes[`${method} ${route}`] = { ...part, ms: Math.round(part.ms * 10) / 10 };
    }
  }
  return { count: done.count, errors: done.errors, histogram, routes, sample: done.sample };
}

// No event tells us that a client has gone: a listener for it would cost every request.
function sweep() {
  for (const entry of inFlight()) {
    if (!over(entry)) {
      continue;
    }
    if (entry.response.headersSent) {
      settle(entry, entry.response.statusCode);
    } else {
      leave(entry);
      forget(entry);
    }
  }
}

function start() {
  let due = performance.now() + TICK_MS;
  const timer = setInterval(() => {
    const now = performance.now();
    try {
      tick(now - due);
    } catch {
      // Whatever it was, it is not the application's trouble.
    }
    due = now + TICK_MS;
  }, TICK_MS);
  timer.unref();
}

function defer(server) {
  deferred.add(server);
  anyDeferred = true;
}

function onUnfinished(work) {
  unfinished = work;
}

module.exports = { defer, finished, note, onFinish, onSpoken, onStart, onTold, onUnfinished, start };
