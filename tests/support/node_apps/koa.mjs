// SPDX-License-Identifier: MIT
import Router from "@koa/router";
import Koa from "koa";
import routes from "./routes_koa.cjs";
routes(Koa, Router);
