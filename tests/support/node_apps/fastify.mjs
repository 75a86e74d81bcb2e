// SPDX-License-Identifier: MIT
import fastify from "fastify";
import routes from "./routes_fastify.cjs";
routes(fastify);
