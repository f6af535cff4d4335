// A second reader of the envelope, written from docs/envelope.md and not from the Python code, on Node's standard
// library alone. It opens every vector that must open, refuses every other, and prints what it counted as JSON.
//
//     node tests/node/verify.mjs [tests/vectors/envelope]
//
// Exit status: 0 all as the vectors say, 1 something else, which "failures" names.

import {
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  timingSafeEqual,
  verify,
} from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

class Refused extends Error {
  constructor(cause) {
    super(cause);
    this.reason = cause;
  }
}

function must(condition, cause) {
  if (!condition) throw new Refused(cause);
}

const LABEL = /^[A-Za-z0-9._:-]{1,64}$/;
const MAX_TIME = 253402300799999n;
const FORMATS = { 1: "json", 2: "msgpack", 3: "pickle", 4: "protobuf", 5: "raw" };
const COMPRESSIONS = { 0: "none", 1: "zlib", 2: "zstd" };
const SUITES = {
  0x01: { name: "hs256", tag: 32, commitment: 0 },
  0x02: { name: "ed25519", tag: 64, commitment: 0 },
  0x03: { name: "es256", tag: 64, commitment: 0 },
  0x11: { name: "a256gcm", tag: 16, commitment: 32 },
};

// -- keys

const P = (1n << 255n) - 19n;
const SMALL_ORDER = [
  0n,
  1n,
  P - 1n,
  P,
  P + 1n,
  littleEndian(Buffer.from("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "hex")),
  littleEndian(Buffer.from("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "hex")),
];

function littleEndian(bytes) {
  return BigInt("0x" + Buffer.from(bytes).reverse().toString("hex"));
}

function unpad(text) {
  if (!/^[A-Za-z0-9_-]{43}$/.test(text)) throw new Error("not 43 characters of base64url");
  const raw = Buffer.from(text, "base64url");
  if (raw.toString("base64url") !== text) throw new Error("the spare bits are not zero");
  return raw;
}

function known(object, names) {
  for (const name of Object.keys(object)) if (!names.includes(name)) throw new Error(`unknown member ${name}`);
}

function readKey(entry) {
  known(entry, "kid suite material public state ops seal_from seal_until open_until grants".split(" "));
  known(
    entry.grants ?? {},
    "purposes types deny_types embedded presets formats compression max_ttl_seconds max_bytes allow_no_expiry".split(" "),
  );
  const key = { suite: "hs256", state: "enabled", ops: ["seal", "open"], grants: {}, ...entry };
  if (!LABEL.test(key.kid)) throw new Error("a kid is a label");
  const elsewhere = /^(env|file|cmd|provider):/.test(key.material ?? "");
  if (key.state === "disabled" && elsewhere) delete key.material;
  if (key.material !== undefined) key.material = unpad(key.material);
  if (key.suite === "ed25519" && (key.material ?? key.public) !== undefined) {
    key.verifier =
      key.material !== undefined
        ? createPublicKey(
            createPrivateKey({
              key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), key.material]),
              format: "der",
              type: "pkcs8",
            }),
          )
        : createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: unpad(key.public).toString("base64url") }, format: "jwk" });
    key.public = unpad(key.verifier.export({ format: "jwk" }).x);
    const y = littleEndian(key.public) & ((1n << 255n) - 1n);
    if (SMALL_ORDER.includes(y)) throw new Error("a public key of small order");
  }
  for (const name of ["seal_from", "seal_until", "open_until"]) {
    if (key[name] !== undefined) key[name] = BigInt(Date.parse(key[name]));
  }
  return key;
}

// JSON.parse keeps the last of two members with one name, so names are looked at as they are written.
function checkNames(text) {
  const open = [];
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\]:,]/g) ?? [];
  tokens.forEach((token, i) => {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (tokens[i + 1] === ":") {
      const name = JSON.parse(token);
      if (open.at(-1).has(name)) throw new Error(`the member ${name} stands there twice`);
      open.at(-1).add(name);
    }
  });
}

export function readKeyring(text) {
  const file = JSON.parse(text);
  checkNames(text);
  known(file, ["version", "revision", "primary", "keys"]);
  if (file.version !== 1) throw new Error("version 1");
  const ring = new Map();
  const halves = new Set();
  for (const entry of file.keys) {
    if (ring.has(entry.kid)) throw new Error("a kid stands there twice");
    const key = readKey(entry);
    for (const half of [key.material, key.public]) {
      if (half === undefined) continue;
      const mark = half.toString("hex");
      if (halves.has(mark)) throw new Error("two keys have the same material");
      halves.add(mark);
    }
    ring.set(entry.kid, key);
  }
  return ring;
}

// -- cryptography

const hmac = (key, ...parts) => parts.reduce((mac, part) => mac.update(part), createHmac("sha256", key)).digest();
const expand = (prk, info) => hmac(prk, info, Buffer.from([1]));

function purposeKey(key, suite, purpose) {
  const info = Buffer.concat([Buffer.from("safeserial/v1/"), Buffer.from([suite]), Buffer.from("/" + purpose)]);
  return expand(hmac(Buffer.alloc(32), key.material), info);
}

function preambleOf(context) {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(context.length);
  return Buffer.concat([Buffer.from("safeserial.envelope.v1\0"), length, context]);
}

// Returns the header without its commitment and the body in the clear.
function authenticate(data, start, key, purpose, preamble) {
  const { suite, tag, commitment, headerLen } = start;
  const tagAt = data.length - tag;
  const text = Buffer.concat([preamble, data.subarray(0, tagAt)]);
  if (suite === 0x01) {
    must(timingSafeEqual(hmac(purposeKey(key, suite, purpose), text), data.subarray(tagAt)), "bad-tag");
  } else if (suite === 0x02) {
    must(verify(null, text, key.verifier, data.subarray(tagAt)), "bad-tag");
  } else {
    const kid = data.subarray(9, start.claimsAt);
    const prk = hmac(data.subarray(start.claimsAt, start.claimsAt + 16), purposeKey(key, suite, purpose));
    const derive = (label) => expand(prk, Buffer.concat([Buffer.from(label), Buffer.from([suite]), kid]));
    must(timingSafeEqual(derive("SS1-COMMITKEY"), data.subarray(headerLen - 32, headerLen)), "bad-tag");
    const cipher = createDecipheriv("aes-256-gcm", derive("SS1-DERIVEKEY"), Buffer.alloc(12), { authTagLength: 16 });
    cipher.setAAD(Buffer.concat([preamble, data.subarray(0, headerLen)]));
    cipher.setAuthTag(data.subarray(tagAt));
    const body = cipher.update(data.subarray(headerLen, tagAt));
    try {
      cipher.final();
    } catch {
      throw new Refused("bad-tag");
    }
    return [data.subarray(0, headerLen - commitment), body];
  }
  return [data.subarray(0, headerLen), data.subarray(headerLen, tagAt)];
}

// -- the wire

function readStart(data, maxBytes) {
  must(data.length <= maxBytes, "too-large");
  must(data.subarray(0, 3).equals(Buffer.from([0xc1, 0x53, 0x53])), "not-sealed");
  must(data.length < 4 || data[3] === 1, "unsupported-version");
  must(data.length >= 9, "truncated");
  const suite = SUITES[data[4]];
  must(suite !== undefined, "unknown-suite");
  must(data[5] === 0, "reserved-flags");
  const headerLen = data.readUInt16BE(6);
  const claimsAt = 9 + data[8];
  must(data[8] >= 1 && data[8] <= 64, "bad-key-id");
  must(headerLen >= claimsAt + 45 + suite.commitment && headerLen <= 4096, "bad-header-length");
  must(headerLen + suite.tag <= data.length, "truncated");
  const kid = data.toString("latin1", 9, claimsAt);
  must(LABEL.test(kid), "bad-key-id");
  return { ...suite, suite: data[4], headerLen, claimsAt, kid };
}

// Takes fields off the front, never past the end.
class Cursor {
  constructor(bytes) {
    this.bytes = bytes;
  }

  take(length) {
    must(length <= this.bytes.length, "bad-claims");
    const taken = this.bytes.subarray(0, length);
    this.bytes = this.bytes.subarray(length);
    return taken;
  }

  number(length) {
    return Number(BigInt("0x" + this.take(length).toString("hex")));
  }

  time() {
    const found = this.take(8).readBigUInt64BE();
    must(found <= MAX_TIME, "bad-claims");
    return Number(found);
  }
}

// A byte order mark is a character like any other here.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function text(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new Refused("bad-claims");
  }
}

function label(bytes) {
  const found = bytes.toString("latin1");
  must(LABEL.test(found), "bad-claims");
  return found;
}

function exactly(length, bytes) {
  must(bytes.length === length, "bad-claims");
  return bytes;
}

const EXTENSIONS = {
  1: ["subject", text],
  2: ["audience", text],
  3: ["bound_headers", (value) => exactly(32, value).toString("hex")],
  4: ["not_before_ms", (value) => new Cursor(exactly(8, value)).time()],
  5: ["on_behalf_of", label],
  6: ["queue", text],
  7: ["reseal_of", (value) => exactly(16, value).toString("hex")],
};

function readClaims(header, start) {
  const from = new Cursor(header.subarray(start.claimsAt));
  const claims = {
    message_id: from.take(16).toString("hex"),
    issued_at_ms: from.time(),
    expires_at_ms: from.time(),
    format: FORMATS[from.number(1)],
    compression: COMPRESSIONS[from.number(1)],
    raw_len: from.number(4),
    schema_version: from.number(2),
    unknown: [],
  };
  must(claims.format !== undefined && claims.compression !== undefined, "bad-claims");
  claims.purpose = label(from.take(from.number(1)));
  claims.type = text(from.take(from.number(1)));
  must(from.number(2) === from.bytes.length, "bad-claims");
  let last = -1;
  while (from.bytes.length > 0) {
    const tag = from.number(1);
    const value = from.take(from.number(2));
    must(tag > last, "bad-claims");
    last = tag;
    if (EXTENSIONS[tag] !== undefined) {
      const [name, read] = EXTENSIONS[tag];
      claims[name] = read(value);
    } else {
      must(tag < 0x80, "unknown-critical-extension");
      claims.unknown.push([tag, value.toString("hex")]);
    }
  }
  return claims;
}

// -- steps 1 to 8

const matches = (patterns, name) =>
  patterns.some((one) => (one.endsWith("*") ? name.startsWith(one.slice(0, -1)) : name === one));

function checkGrants(claims, grants) {
  const { purposes, types, deny_types: denied, formats, compression, max_ttl_seconds: ttl } = grants;
  must(claims.expires_at_ms !== 0 || grants.allow_no_expiry === true, "expiry-missing");
  must(purposes === undefined || purposes.includes(claims.purpose), "purpose-not-granted");
  must(!matches(denied ?? [], claims.type), "type-not-granted");
  must(types === undefined || matches(types, claims.type), "type-not-granted");
  must(formats === undefined || formats.includes(claims.format), "format-not-granted");
  const method = claims.compression;
  must(compression === undefined || method === "none" || compression.includes(method), "compression-not-granted");
  const life = claims.expires_at_ms === 0 ? 0 : claims.expires_at_ms - claims.issued_at_ms;
  must(ttl === undefined || life <= ttl * 1000, "ttl-not-granted");
}

export function open(data, ring, reader) {
  const now = reader.now_ms;
  const soon = now + reader.skew_ms;
  const start = readStart(data, reader.max_bytes);
  const key = ring.get(start.kid);
  must(key !== undefined, "unknown-key");
  must(key.state === "enabled", "key-disabled");
  must(key.open_until === undefined || now <= key.open_until, "key-outside-window");
  must(key.ops.includes("open"), "key-may-not-open");
  must(key.suite === start.name, "suite-mismatch");
  must(data.length <= (key.grants.max_bytes ?? Infinity), "size-not-granted");
  const preamble = preambleOf(Buffer.from(reader.context, "hex"));
  const [header, body] = authenticate(data, start, key, reader.purpose, preamble);
  const claims = readClaims(header, start);
  must(claims.issued_at_ms <= soon, "issued-in-future");
  must(claims.not_before_ms === undefined || claims.not_before_ms <= soon, "not-yet-valid");
  must(claims.expires_at_ms === 0 || claims.expires_at_ms > now, "expired");
  const issued = BigInt(claims.issued_at_ms);
  const skew = BigInt(reader.skew_ms);
  must(key.seal_from === undefined || issued >= key.seal_from - skew, "key-outside-window");
  must(key.seal_until === undefined || issued <= key.seal_until + skew, "key-outside-window");
  must(claims.purpose === reader.purpose, "purpose-mismatch");
  must((claims.audience ?? null) === reader.audience, "audience-mismatch");
  checkGrants(claims, key.grants);
  return { claims, body, kid: start.kid, header_len: start.headerLen };
}

// -- bound headers

// JSON.parse rounds integers in silence, so they are looked at as they are written.
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(\.\d+)?([eE][+-]?\d+)?/g;

const LONE_SURROGATE = /\p{Surrogate}/u;
const MAX_VALUES = 100_000;

function label16(name) {
  must(!LONE_SURROGATE.test(name), "bad-task-header");
  return JSON.stringify(name);
}


let left = 0; // values that may still come

function canonical(value, depth = 1) {
  must(left-- > 0, "bad-task-header");
  if (typeof value === "string") must(!LONE_SURROGATE.test(value), "bad-task-header");
  if (typeof value === "number") must(Number.isFinite(value), "bad-task-header");
  // ECMAScript's spelling of numbers, strings and literals is the one of RFC 8785.
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  must(depth <= 32, "bad-task-header");
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, depth + 1)).join(",")}]`;
  const names = Object.keys(value).sort(); // by UTF-16 code units
  return `{${names.map((name) => `${label16(name)}:${canonical(value[name], depth + 1)}`).join(",")}}`;
}

function bind(json) {
  for (const [token, fraction, exponent] of json.matchAll(TOKEN)) {
    if (token.startsWith('"') || fraction !== undefined || exponent !== undefined) continue;
    const exact = Math.abs(Number(token)) < 2 ** 1023 && BigInt(Number(token)) === BigInt(token);
    must(exact, "bad-task-header");
  }
  left = MAX_VALUES;
  return canonical(JSON.parse(json));
}

// -- the vectors

const here = dirname(fileURLToPath(import.meta.url));
const folder = process.argv[2] ?? join(here, "..", "vectors", "envelope");
const read = (name) => readFileSync(join(folder, name), "utf-8");
const ring = readKeyring(read("keyring.json"));
const counts = { accepted: {}, refused: {}, binding: { accepted: 0, refused: 0 } };
const failures = [];

function outcome(work) {
  try {
    return { found: work() };
  } catch (error) {
    // Whatever is not our own refusal is a fault of this reader.
    return error instanceof Refused ? { reason: error.reason } : { fault: `${error}` };
  }
}

for (const v of JSON.parse(read("accepted.json"))) {
  const { found, ...rest } = outcome(() => open(Buffer.from(v.envelope, "hex"), ring, v.reader));
  const said = found && { ...found, body: found.body.toString("hex") };
  const { claims, body, kid, header_len } = v;
  const good = isDeepStrictEqual(said, { claims, body, kid, header_len });
  if (!good) failures.push({ id: v.id, said: said ?? rest });
  else counts.accepted[v.suite] = (counts.accepted[v.suite] ?? 0) + 1;
}
for (const v of JSON.parse(read("refused.json"))) {
  const { found, ...rest } = outcome(() => open(Buffer.from(v.envelope, "hex"), ring, v.reader));
  if (found !== undefined || rest.reason !== v.cause) failures.push({ id: v.id, said: rest, accepted: found !== undefined });
  else counts.refused[v.suite] = (counts.refused[v.suite] ?? 0) + 1;
}
const binding = JSON.parse(read("binding.json"));
for (const v of binding.accepted) {
  const { found, ...rest } = outcome(() => bind(v.json));
  const hash = createHash("sha256").update(found ?? "", "utf-8").digest("hex");
  if (found !== v.canonical || hash !== v.sha256) failures.push({ id: v.id, said: found ?? rest });
  else counts.binding.accepted += 1;
}
for (const v of binding.refused) {
  const { found, ...rest } = outcome(() => bind(v.json));
  if (rest.reason !== v.reason) failures.push({ id: v.id, said: found ?? rest });
  else counts.binding.refused += 1;
}
console.log(JSON.stringify({ ...counts, failures }));
process.exitCode = failures.length === 0 ? 0 : 1;
