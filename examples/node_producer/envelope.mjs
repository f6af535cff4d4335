// Seals bodies into envelopes, suite 01 (hs256), as docs/envelope.md specifies them. Node's standard library alone.

import { createHash, createHmac, hkdfSync, randomBytes } from "node:crypto";

const MAGIC = Buffer.from("c15353", "hex");
const VERSION = 1;
const SUITE_HS256 = 1;
const FORMAT_JSON = 1;
const COMPRESSION_NONE = 0;
const MAX_HEADER_BYTES = 4096;
const MAX_LEVELS = 32;
const LABEL = /^[A-Za-z0-9._:-]{1,64}$/;

/** The first hs256 key of a text like "ss1:hs256:node-1:<43 characters>"; several are separated by blanks or commas. */
export function readKey(text) {
  for (const one of text.split(/[\s,]+/)) {
    const match = /^ss1:hs256:([A-Za-z0-9._:-]{1,64}):([A-Za-z0-9_-]{43})$/.exec(one);
    if (match === null) continue;
    const material = Buffer.from(match[2], "base64url");
    if (material.toString("base64url") !== match[2]) throw new Error("the key's last character has spare bits set");
    return { kid: match[1], material };
  }
  throw new Error("no hs256 key: expected ss1:hs256:<kid>:<43 characters>");
}

/**
 * RFC 8785 (JCS) canonical JSON. JSON.stringify writes text and numbers as it asks for, so what is left is the order of
 * members (by UTF-16 code units, as sort() does) and refusing what JSON cannot carry exactly.
 */
export function canonical(value, levels = 0) {
  if (value === null || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "string") {
    if (!value.isWellFormed()) throw new Error("half of a surrogate pair");
    return JSON.stringify(value);
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new Error("NaN or infinity");
    return JSON.stringify(value);
  }
  if (typeof value !== "object") throw new Error(`a ${typeof value} where JSON stands`);
  if (levels >= MAX_LEVELS) throw new Error(`more than ${MAX_LEVELS} levels`);
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, levels + 1)).join(",")}]`;
  const members = Object.keys(value).sort();
  return `{${members.map((key) => `${canonical(key)}:${canonical(value[key], levels + 1)}`).join(",")}}`;
}

const TRANSPORT = /^(?:redelivered|delivery_tag|compression|x-death|x-delivery-count|x-opt-sequence-number)$|^x-(?:first|last)-death-/;
const TRACING = /^(?:traceparent|tracestate|baggage)$|^sentry-/;

/** Digest of the headers and properties that a Celery message travels with; see "Bound headers". */
export function boundHeaders(headers, properties) {
  const view = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith("@")) throw new Error("a header name starts with @");
    if (!TRANSPORT.test(name) && !TRACING.test(name)) view[name] = value;
  }
  for (const name of ["reply_to", "correlation_id"]) view[`@${name}`] = properties[name] || "";
  return createHash("sha256").update(canonical(view)).digest();
}

function uint(bytes, value) {
  const out = Buffer.alloc(bytes);
  if (bytes === 8) out.writeBigUInt64BE(BigInt(value));
  else out.writeUIntBE(value, 0, bytes);
  return out;
}

function text(lengthBytes, value) {
  const data = Buffer.from(value, "utf8");
  return Buffer.concat([uint(lengthBytes, data.length), data]);
}

function extension(tag, value) {
  return Buffer.concat([uint(1, tag), uint(2, value.length), value]);
}

/** Both sections of a task's body: what it wishes to be called afterwards, which is nothing, and its arguments. */
export function taskBody(args, kwargs) {
  const wishes = Buffer.from('{"callbacks":null,"errbacks":null,"chain":null,"chord":null}');
  return Buffer.concat([uint(4, wishes.length), wishes, Buffer.from(JSON.stringify([args, kwargs, []]))]);
}

/**
 * One envelope around a JSON body.
 *
 * key       from readKey()
 * purpose   "tasks" for a Celery task, "data" for anything else
 * type      name of the task or kind of the message
 * subject   id of the task, digest: boundHeaders(), queue: where it goes; each may be left out where there is none
 */
export function seal(body, { key, purpose, type, ttlSeconds = 3600, subject, digest, queue, context = "" }) {
  if (!LABEL.test(purpose)) throw new Error("a purpose is a label");
  const now = Date.now();
  const extensions = [];
  // Tags ascend.
  if (subject !== undefined) extensions.push(extension(0x01, Buffer.from(subject, "utf8")));
  if (digest !== undefined) extensions.push(extension(0x03, digest));
  if (queue !== undefined) extensions.push(extension(0x06, Buffer.from(queue, "utf8")));
  const packed = Buffer.concat(extensions);
  const behindKid = Buffer.concat([
    randomBytes(16), // a message id, never the same twice
    uint(8, now),
    uint(8, now + ttlSeconds * 1000),
    uint(1, FORMAT_JSON),
    uint(1, COMPRESSION_NONE),
    uint(4, body.length),
    uint(2, 0), // schema version: none
    text(1, purpose),
    text(1, type),
    uint(2, packed.length),
    packed,
  ]);
  const kid = text(1, key.kid);
  const headerLength = 8 + kid.length + behindKid.length;
  if (headerLength > MAX_HEADER_BYTES) throw new Error("the header is too long");
  const start = Buffer.concat([MAGIC, uint(1, VERSION), uint(1, SUITE_HS256), uint(1, 0), uint(2, headerLength)]);
  const untagged = Buffer.concat([start, kid, behindKid, body]);

  const info = Buffer.concat([Buffer.from("safeserial/v1/"), uint(1, SUITE_HS256), Buffer.from(`/${purpose}`)]);
  const purposeKey = Buffer.from(hkdfSync("sha256", key.material, Buffer.alloc(0), info, 32));
  const preamble = Buffer.concat([Buffer.from("safeserial.envelope.v1\0"), text(2, context)]);
  const tag = createHmac("sha256", purposeKey).update(preamble).update(untagged).digest();
  return Buffer.concat([untagged, tag]);
}
