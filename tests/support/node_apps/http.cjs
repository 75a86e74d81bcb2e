// SPDX-License-Identifier: MIT
// No framework: it catches for itself and says so on the console, or answers and says nothing.
"use strict";
const http = require("node:http");
const { faults, half, ready } = require("./faults.cjs");

async function answer(request, response) {
  const [, first, name] = request.url.split("?")[0].split("/");
  if (first === "shop" && faults[name]) {
    return (await faults[name]()) || "never";
  }
  if (first === "shop") {
    return JSON.stringify({ id: request.url.split("/")[3] });
  }
  if (first === "json") {
    let text = "";
    for await (const piece of request) {
      text += piece;
    }
    try {
      return JSON.stringify(JSON.parse(text));
    } catch (error) {
      throw Object.assign(error, { status: 400 });
    }
  }
  if (first === "calm") {
    return name === "told" ? faults.client() : faults.type();
  }
  return "fine";
}

const server = http.createServer(async (request, response) => {
  if (request.url === "/wait") {
    return request.socket.on("close", () => console.error("gone"));
  }
  if (request.url === "/half") {
    return half().on("error", (error) => response.destroy(error)).pipe(response, { end: false });
  }
  try {
    response.end(await answer(request, response));
  } catch (error) {
    console.error(error instanceof Error ? error : new Error(String(error)));
    response.statusCode = error.status || 500;
    response.end(JSON.stringify({ said: String(error.message || error).slice(0, 100), stack: String(error.stack).slice(-2000) }));
  }
});
server.listen(0, "127.0.0.1", () => ready(server.address().port));
