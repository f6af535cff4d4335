// Sends tasks to Celery workers through Redis: sealed, or unsigned to a queue that takes plain data.
//
//     node producer.mjs seal QUEUE TASK ARGS [KWARGS]     needs SAFESERIAL_KEYS
//     node producer.mjs data QUEUE TASK ARGS [KWARGS]
//
// ARGS is a JSON array, KWARGS a JSON object. REDIS_URL says where Redis is, redis://127.0.0.1:6379/0 if not set. With
// --print the message is written to standard output instead of being sent.

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { boundHeaders, readKey, seal, taskBody } from "./envelope.mjs";
import { Redis } from "./redis.mjs";

/** Refuse arguments that JSON would change on the way: they must arrive as they are here, or not at all. */
function checked(value) {
  if (typeof value === "number" && !(Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value))) {
    throw new Error("a number that JSON cannot carry exactly");
  }
  if (typeof value === "string" && !value.isWellFormed()) throw new Error("half of a surrogate pair");
  if (["undefined", "function", "symbol", "bigint"].includes(typeof value)) throw new Error(`a ${typeof value}`);
  if (typeof value === "object" && value !== null) {
    // In sealed JSON this key stands for a type.
    if (Object.hasOwn(value, "~")) throw new Error('an object with the reserved key "~"');
    for (const [key, item] of Object.entries(value)) checked(key), checked(item);
  }
  return value;
}

/** The headers of Celery's protocol 2. */
function headersOf(task, id) {
  return {
    lang: "js",
    task,
    id,
    root_id: id,
    parent_id: null,
    group: null,
    retries: 0,
    eta: null,
    expires: null,
    timelimit: [null, null],
    argsrepr: "",
    kwargsrepr: "",
    origin: `node@${hostname()}`,
    ignore_result: true,
  };
}

/** What kombu puts on a Redis list. */
function kombuMessage(queue, body, contentType, headers, properties) {
  return JSON.stringify({
    body: body.toString("base64"),
    "content-type": contentType,
    "content-encoding": contentType === "application/json" ? "utf-8" : "binary",
    headers,
    properties: {
      ...properties,
      delivery_mode: 2,
      delivery_info: { exchange: "", routing_key: queue },
      priority: 0,
      body_encoding: "base64",
      delivery_tag: randomUUID(),
    },
  });
}

/** An unsigned task, for a queue whose section says trust = "data-only" and lists the task. */
export function dataTask(queue, task, args, kwargs = {}) {
  const headers = headersOf(task, randomUUID());
  const body = Buffer.from(JSON.stringify([checked(args), checked(kwargs), null]));
  return kombuMessage(queue, body, "application/json", headers, { correlation_id: headers.id, reply_to: "" });
}

/** A sealed task, for any queue of a guarded worker. */
export function sealedTask(queue, task, args, kwargs = {}, { key, context } = {}) {
  const headers = headersOf(task, randomUUID());
  const properties = { correlation_id: headers.id, reply_to: "" };
  const body = seal(taskBody(checked(args), checked(kwargs)), {
    key,
    purpose: "tasks",
    type: task,
    subject: headers.id,
    digest: boundHeaders(headers, properties),
    queue,
    context,
  });
  return kombuMessage(queue, body, "application/vnd.safeserial", headers, properties);
}

async function main() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { print: { type: "boolean" } } });
  const [how, queue, task, args, kwargs = "{}"] = positionals;
  if (!["seal", "data"].includes(how) || args === undefined) {
    throw new Error("usage: node producer.mjs seal|data QUEUE TASK ARGS [KWARGS] [--print]");
  }
  const given = [queue, task, JSON.parse(args), JSON.parse(kwargs)];
  const message =
    how === "data" ? dataTask(...given) : sealedTask(...given, { key: readKey(process.env.SAFESERIAL_KEYS ?? "") });
  if (values.print) {
    console.log(message);
    return;
  }
  const redis = await Redis.open(process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0");
  try {
    await redis.call("LPUSH", queue, message);
  } finally {
    redis.close();
  }
  console.log(`${how}: ${task} to ${queue}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().catch((error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 2;
  });
}
