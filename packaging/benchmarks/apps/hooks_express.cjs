// SPDX-License-Identifier: MIT
"use strict";
const app = require("express")();
app.get("/items/:id", (request, response) => response.send("ok\n"));
app.listen(Number(process.env.PORT), "127.0.0.1");
