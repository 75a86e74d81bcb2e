// SPDX-License-Identifier: MIT
import http from "node:http";
import express from "express";
import faults from "./faults.cjs";
import routes from "./routes_express.cjs";
const app = routes(express);
const server = http.createServer((request, response) => app(request, response)).listen(0, "127.0.0.1", () => faults.ready(server.address().port));
