// SPDX-License-Identifier: MIT
// A small shop. One route has a bug that ends the whole process, as uncaught errors do in Node.
"use strict";

const http = require("node:http");
const orders = require("./lib/orders");

function send(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

const server = http.createServer((request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  if (path === "/health") {
    return send(response, 200, { status: "ok", uptime: process.uptime() });
  }
  const match = path.match(/^\/orders\/(\d+)$/);
  if (match) {
    const order = orders.findOrdr(Number(match[1]));
    if (!order) {
      return send(response, 404, { error: "no such order", path });
    }
    return send(response, 200, { ...order, total: orders.total(order) });
  }
  return send(response, 404, { error: "not found", path });
});

server.listen(Number(process.env.PORT), "127.0.0.1", () => {
  console.log(`shop listens on ${process.env.PORT}`);
});
