// SPDX-License-Identifier: MIT
// What can be told of a thrown value: its name, message and stack, its causes, and where the application raised it.
// It is the application's object: whatever is asked of it may throw, be huge, or lead round in a circle.
"use strict";

const MESSAGE_MAX = 4096;
const STACK_MAX = 8 * 1024;
const CAUSES_MAX = 4;

// An error's stack may be a getter of the application's.
function attempt(work, otherwise) {
  try {
    return work();
  } catch {
    return otherwise;
  }
}

// Node prints the name with which the stack begins; a later change of `name` does not touch it. Above it may
// stand the place of a syntax error.
function nameOf(error, otherwise = "Uncaught") {
  if (!error || typeof error.stack !== "string") {
    return otherwise;
  }
  const begin = error.stack.slice(0, 4 * MESSAGE_MAX).split("\n    at ", 1)[0];
  const found = /^([A-Za-z_$][\w$.]*)(?: \[[^\]\n]*\])?(?::|$)/m.exec(begin.replace(/^[^\n]*:\d+\n[^]*?\n\n/, ""));
  return (found ? found[1] : String(error.name || "Error")).slice(0, 200);
}

function messageOf(error) {
  if (error && typeof error === "object" && "message" in error) {
    return String(error.message);
  }
  return typeof error === "string" ? error : require("util").inspect(error, { depth: 1, breakLength: Infinity });
}

// With the causes as Node prints them, so that one parser reads both.
function stackOf(error) {
  let stack = error && error.stack ? String(error.stack) : "";
  const causes = [];
  for (let cause = error && error.cause; cause && cause.stack && causes.length < CAUSES_MAX; cause = cause.cause) {
    causes.push(String(cause.stack));
  }
  causes.forEach((cause, depth) => {
    const indent = "  ".repeat(depth + 1);
    stack += ` {\n${indent}[cause]: ${cause.replace(/\n/g, `\n${indent}`)}`;
  });
  for (let depth = causes.length - 1; depth >= 0; depth -= 1) {
    stack += `\n${"  ".repeat(depth)}}`;
  }
  return stack;
}

// A message of megabytes stands before the frames in a stack; the frames are what is wanted.
function cut(stack, message) {
  if (stack.length <= STACK_MAX) {
    return stack;
  }
  const past = stack.indexOf(message.slice(0, 64)) + message.length;
  const frames = stack.indexOf("\n    at ", Math.max(past, 0));
  const head = stack.slice(0, STACK_MAX / 4);
  return frames < 0 ? head : `${head.slice(0, Math.min(head.length, frames))}${stack.slice(frames, frames + STACK_MAX / 2)}`;
}

function describe(error) {
  const message = attempt(() => messageOf(error), "");
  return {
    name: attempt(() => nameOf(error, "NonError"), "Error"),
    message: message.slice(0, MESSAGE_MAX),
    stack: attempt(() => (typeof error.stack === "string" ? cut(error.stack, message) : ""), ""),
  };
}

// The causes, the nearest first; a chain may come back to where it began.
function causesOf(error) {
  const seen = new Set([error]);
  const causes = [];
  let cause = attempt(() => error.cause);
  while (cause !== undefined && cause !== null && !seen.has(cause) && causes.length < CAUSES_MAX) {
    seen.add(cause);
    causes.push(describe(cause));
    const last = cause;
    cause = attempt(() => last.cause);
  }
  return causes;
}

// The innermost frame in the application's own source.
function ownFrame(stack) {
  for (const line of stack.split("\n")) {
    const found = /^\s+at (?:.*\()?(?:file:\/\/)?(\/[^()]*?):(\d+):\d+\)?$/.exec(line);
    if (found && !found[1].includes("/node_modules/") && !found[1].startsWith(__dirname)) {
      return { file: found[1], line: Number(found[2]) };
    }
  }
  return { file: null, line: null };
}

// Where we stand between two functions of a framework, the stack of what is thrown below shows it, and so that we push
// none of the application's frames out, the stack was allowed to be longer. Both are undone: an application that
// answers with its stacks answers the same.
function withoutUs(error) {
  attempt(() => {
    const { stack } = error;
    if (typeof stack !== "string") {
      return;
    }
    const limit = Error.stackTraceLimit - raised;
    const message = typeof error.message === "string" ? stack.indexOf(error.message) + error.message.length : 0;
    const at = stack.indexOf("\n    at ", Math.max(0, message));
    const frames = at < 0 ? [] : stack.slice(at + 1).split("\n");
    const own = frames.filter((line) => !(line.startsWith("    at ") && line.includes(__dirname)));
    if (own.length < frames.length || (own.length > limit && own.length <= limit + EXTRA_MAX)) {
      error.stack = [stack.slice(0, at), ...own.slice(0, limit)].join("\n");
    }
  });
}

const EXTRA_MAX = 64;
let raised = 0;

// Let stacks be longer by our frames while we stand in between; returns what `shallower` wants back.
function deeper(frames) {
  const limit = Error.stackTraceLimit;
  if (typeof limit !== "number" || !Number.isFinite(limit) || limit <= 0 || raised + frames > EXTRA_MAX) {
    return null;
  }
  Error.stackTraceLimit = limit + frames;
  raised += frames;
  return { limit, frames };
}

function shallower(before) {
  if (before === null) {
    return;
  }
  raised -= before.frames;
  // The application may have set another in the meantime.
  if (Error.stackTraceLimit === before.limit + before.frames) {
    Error.stackTraceLimit = before.limit;
  }
}

module.exports = { attempt, causesOf, deeper, describe, messageOf, nameOf, ownFrame, shallower, stackOf, withoutUs };
