/** @import { Ending, Handlers, Socket, SocketOptions } from "./socket.js" */
import { NetworkError, refusal } from "./errors.js";

/** The longest message taken, in bytes: a page of 50 rows is under 64 KiB. */
const MAX_MESSAGE = 4 << 20;
/** How long the server has to answer the upgrade, and our close frame. */
const OPEN_TIMEOUT = 30_000;
const CLOSE_TIMEOUT = 2_000;

const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

/**
 * A client's side of RFC 6455 on Node's own HTTP client: text messages, no extensions. The modules are asked for when the first socket
 * opens, and in a way that bundlers for browsers do not follow.
 *
 * @param {SocketOptions} options
 * @param {Handlers} handlers
 * @returns {Socket}
 */
export function nodeSocket({ url, protocols, authorization }, handlers) {
  const module = (/** @type {string} */ name) => /** @type {any} */ (globalThis).process.getBuiltinModule(name);
  /** @type {typeof import("node:crypto")} */
  const crypto = module("node:crypto");
  const key = crypto.randomBytes(16).toString("base64");
  /** @type {import("node:net").Socket | null} */
  let socket = null;
  let closing = false; // our close frame was sent
  let closed = false;

  const close = (/** @type {Ending} */ end) => {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    request.destroy();
    socket?.destroy();
    handlers.close(end);
  };
  const failed = (/** @type {unknown} */ cause, message = "the connection was lost") => {
    close({ code: 1006, reason: "", error: new NetworkError(cause instanceof Error ? `${message}: ${cause.message}` : message, cause) });
  };
  const write = (/** @type {number} */ op, /** @type {Buffer} */ payload) => {
    if (socket && !closed && !closing) socket.write(encode(op, payload, crypto.randomBytes(4)));
  };
  const sendClose = (/** @type {Buffer} */ payload) => {
    if (closing || closed) return;
    write(CLOSE, payload);
    closing = true;
    clearTimeout(timer);
    timer = setTimeout(failed, CLOSE_TIMEOUT, undefined, "the server did not answer the close frame");
  };

  /** @type {typeof import("node:http")} */
  const http = module(url.protocol === "wss:" ? "node:https" : "node:http");
  const target = new URL(url);
  target.protocol = url.protocol === "wss:" ? "https:" : "http:";
  const request = http.request(target, {
    agent: false,
    headers: {
      connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": key,
      ...(protocols.length && { "sec-websocket-protocol": protocols.join(", ") }),
      ...(authorization && { authorization }),
    },
  });
  let timer = setTimeout(failed, OPEN_TIMEOUT, undefined, "the server did not answer");
  request.on("error", error => failed(error, "the server cannot be reached"));
  request.on("response", async response => {
    let body = "";
    response.setEncoding("utf8");
    response.on("error", failed);
    for await (const chunk of response) if ((body += chunk).length > 64 << 10) break;
    close({
      code: 1006, reason: "",
      refusal: refusal(response.statusCode ?? 0, response.statusMessage ?? "", name => [response.headers[name]].flat()[0], body),
    });
  });
  request.on("upgrade", (response, upgraded, head) => {
    if (closed) return void upgraded.destroy();
    socket = /** @type {import("node:net").Socket} */ (upgraded);
    socket.on("error", failed);
    socket.on("close", () => failed(undefined));
    const accept = crypto.createHash("sha1").update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
    const chosen = response.headers["sec-websocket-protocol"];
    if (response.headers["sec-websocket-accept"] !== accept || (chosen !== undefined && !protocols.includes(chosen))
      || response.headers["sec-websocket-extensions"]) {
      return failed(undefined, "the answer to the upgrade is not a WebSocket's");
    }
    clearTimeout(timer);
    socket.setNoDelay(true);
    const decoder = new Decoder((op, payload) => {
      if (closed) return;
      switch (op) {
        case TEXT:
          if (!closing) handlers.message(text(payload));
          return;
        case BINARY:
          throw new ProtocolError(1003, "a binary message");
        case PING:
          write(PONG, payload);
          handlers.ping();
          return;
        case CLOSE: {
          const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
          const reason = text(payload.subarray(2));
          sendClose(payload.subarray(0, 2));
          socket?.end(() => close({ code, reason }));
        }
      }
    });
    const take = (/** @type {Buffer} */ chunk) => {
      try {
        decoder.push(chunk);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        const code = Buffer.alloc(2);
        code.writeUInt16BE(error.code);
        sendClose(code);
        failed(error, "the server broke the WebSocket protocol");
      }
    };
    socket.on("data", take);
    handlers.open();
    if (head.length) take(head);
  });
  request.end();

  return {
    seesPings: true,
    send: text => write(TEXT, Buffer.from(text)),
    close: (code = 1000) => {
      if (!socket) return queueMicrotask(() => failed(undefined, "the connection was given up"));
      const payload = Buffer.alloc(2);
      payload.writeUInt16BE(code);
      sendClose(payload);
    },
    drop: () => queueMicrotask(() => failed(undefined, "the connection was given up")),
  };
}

class ProtocolError extends Error {
  /** @param {number} code of the close frame @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** @param {Buffer} payload */
function text(payload) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload);
  } catch {
    throw new ProtocolError(1007, "text that is not UTF-8");
  }
}

/**
 * A frame, masked as a client's must be (RFC 6455, section 5.3).
 *
 * @param {number} op @param {Buffer} payload @param {Buffer} mask
 */
function encode(op, payload, mask) {
  const size = payload.length;
  const header = size < 126 ? Buffer.alloc(2) : size < 1 << 16 ? Buffer.alloc(4) : Buffer.alloc(10);
  header[0] = 0x80 | op;
  if (size < 126) header[1] = 0x80 | size;
  else if (size < 1 << 16) {
    header[1] = 0x80 | 126;
    header.writeUInt16BE(size, 2);
  } else {
    header[1] = 0x80 | 127;
    header.writeBigUInt64BE(BigInt(size), 2);
  }
  const masked = Buffer.from(payload);
  for (let i = 0; i < size; i++) masked[i] = /** @type {number} */ (masked[i]) ^ /** @type {number} */ (mask[i & 3]);
  return Buffer.concat([header, mask, masked]);
}

/** Cuts what a server sends into messages and control frames (RFC 6455, section 5). Throws a ProtocolError at what is neither. */
export class Decoder {
  #emit;
  /** @type {Buffer[]} */
  #chunks = [];
  #size = 0;
  /** @type {{op: number, parts: Buffer[], size: number} | null} */
  #message = null;

  /** @param {(op: number, payload: Buffer) => void} emit */
  constructor(emit) {
    this.#emit = emit;
  }

  /** @param {Buffer} chunk */
  push(chunk) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (this.#frame());
  }

  /** Takes one frame, if it is there whole. */
  #frame() {
    if (this.#size < 2) return false;
    let data = this.#peek(Math.min(this.#size, 10));
    const first = data.readUInt8(0), second = data.readUInt8(1);
    const op = first & 15, fin = (first & 0x80) !== 0;
    if (first & 0x70) throw new ProtocolError(1002, "a reserved bit is set");
    if (second & 0x80) throw new ProtocolError(1002, "a masked frame");
    let size = second & 127, header = 2;
    if (op >= CLOSE) {
      if (op > PONG || !fin || size > 125) throw new ProtocolError(1002, "a control frame that is none");
    } else if (op > BINARY || (op === 0) === (this.#message === null)) {
      throw new ProtocolError(1002, "a frame that does not continue what was begun");
    }
    if (size >= 126) {
      header = size === 126 ? 4 : 10;
      if (this.#size < header) return false;
      size = size === 126 ? data.readUInt16BE(2) : Number(data.readBigUInt64BE(2));
    }
    if (size + (this.#message?.size ?? 0) > MAX_MESSAGE) throw new ProtocolError(1009, "a message that is too long");
    if (this.#size < header + size) return false;
    data = this.#peek(header + size);
    const payload = data.subarray(header, header + size);
    this.#chunks[0] = data.subarray(header + size);
    this.#size -= header + size;
    this.#take(op, fin, payload);
    return true;
  }

  /** The first chunk, made to hold at least size bytes. @param {number} size @returns {Buffer} */
  #peek(size) {
    let [first] = this.#chunks;
    if (!first || first.length < size) {
      first = Buffer.concat(this.#chunks);
      this.#chunks = [first];
    }
    return first;
  }

  /** @param {number} op @param {boolean} fin @param {Buffer} payload */
  #take(op, fin, payload) {
    if (op >= CLOSE) return this.#emit(op, payload);
    this.#message ??= { op, parts: [], size: 0 };
    this.#message.parts.push(payload);
    this.#message.size += payload.length;
    if (!fin) return;
    const { op: kind, parts } = this.#message;
    this.#message = null;
    this.#emit(kind, parts.length === 1 ? payload : Buffer.concat(parts));
  }
}
