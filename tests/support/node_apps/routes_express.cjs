// SPDX-License-Identifier: MIT
"use strict";
const { faults, broken, half } = require("./faults.cjs");

module.exports = (express) => {
  const app = express();
  app.use(express.json());
  app.get("/ok", (request, response) => response.send("fine"));
  const shop = express.Router();
  shop.get("/items/:id", (request, response) => response.json({ id: request.params.id }));
  for (const [name, fault] of Object.entries(faults)) {
    shop.all(`/${name}/:id`, (request, response, next) => {
      const result = fault();
      return result && result.then ? result.catch(next) : response.send("never");
    });
  }
  app.use("/shop", shop);
  app.post("/json", (request, response) => response.json(request.body));
  app.get("/stream", (request, response, next) => broken().on("error", next).pipe(response));
  app.get("/half", (request, response, next) => half().on("error", next).pipe(response, { end: false }));
  app.get("/wait", (request) => request.socket.on("close", () => console.error("gone")));
  const angry = express.Router();
  angry.get("/handler", () => faults.type());
  angry.use((error, request, response, next) => {
    throw new EvalError("the handler fails, too");
  });
  app.use("/angry", angry);
  const calm = express.Router();
  calm.get("/:id", () => faults.type());
  calm.get("/told/:id", () => faults.client());
  calm.use((error, request, response, next) => {
    response.status(error.status || 500).json({ said: error.message, stack: error.stack });
  });
  app.use("/calm", calm);
  return app;
};
