// As much of a Redis client as a producer needs: one connection, one command after the other. RESP 2 over node:net.

import { connect as connectPlain } from "node:net";
import { connect as connectTls } from "node:tls";

export class Redis {
  #socket;
  #received = Buffer.alloc(0);
  #waiting = [];
  #failed = null;

  constructor(socket) {
    this.#socket = socket;
    socket.on("data", (data) => this.#read(data));
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("Redis closed the connection")));
  }

  /** Connect to redis://[[user]:password@]host[:port][/database]; rediss:// for TLS. */
  static async open(url) {
    const at = new URL(url);
    const options = { host: at.hostname, port: Number(at.port || 6379), servername: at.hostname };
    const secure = at.protocol === "rediss:";
    const socket = secure ? connectTls(options) : connectPlain(options);
    await new Promise((resolve, reject) => socket.once(secure ? "secureConnect" : "connect", resolve).once("error", reject));
    const redis = new Redis(socket);
    if (at.password) await redis.call("AUTH", ...[at.username, at.password].filter(Boolean).map(decodeURIComponent));
    const database = at.pathname.slice(1);
    if (database) await redis.call("SELECT", database);
    return redis;
  }

  /** Send one command; its words are text or bytes. */
  call(...words) {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    const parts = [Buffer.from(`*${words.length}\r\n`)];
    for (const word of words) {
      const data = Buffer.from(word);
      parts.push(Buffer.from(`$${data.length}\r\n`), data, Buffer.from("\r\n"));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(Buffer.concat(parts));
    });
  }

  close() {
    this.#socket.end();
  }

  #fail(error) {
    this.#failed ??= error;
    for (const one of this.#waiting.splice(0)) one.reject(this.#failed);
  }

  #read(data) {
    this.#received = Buffer.concat([this.#received, data]);
    for (;;) {
      const reply = parse(this.#received, 0);
      if (reply === null) return;
      this.#received = this.#received.subarray(reply.end);
      const { resolve, reject } = this.#waiting.shift();
      if (reply.value instanceof Error) reject(reply.value);
      else resolve(reply.value);
    }
  }
}

/** One reply and where it ends, or null where it is not there as a whole. */
function parse(data, at) {
  const line = data.indexOf("\r\n", at);
  if (line < 0) return null;
  const kind = String.fromCharCode(data[at]);
  const rest = data.toString("utf8", at + 1, line);
  let end = line + 2;
  if (kind === "+") return { value: rest, end };
  if (kind === "-") return { value: new Error(rest), end };
  if (kind === ":") return { value: Number(rest), end };
  const length = Number(rest);
  if (length < 0) return { value: null, end };
  if (kind === "$") {
    if (data.length < end + length + 2) return null;
    return { value: data.subarray(end, end + length), end: end + length + 2 };
  }
  const value = [];
  for (let item = 0; item < length; item += 1) {
    const reply = parse(data, end);
    if (reply === null) return null;
    value.push(reply.value);
    end = reply.end;
  }
  return { value, end };
}
