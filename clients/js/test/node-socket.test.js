/** @import { Ending } from "../src/socket.js" */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { test } from "node:test";
import { Decoder } from "../src/node-socket.js";
import { openSocket } from "../src/socket.js";
import { random, seed } from "./random.js";

/**
 * A frame as a server sends it.
 *
 * @param {number} op @param {Buffer | string} payload
 * @param {{fin?: boolean, rsv?: number, mask?: boolean, wide?: boolean}} [how]
 */
function frame(op, payload, { fin = true, rsv = 0, mask = false, wide = false } = {}) {
  const data = Buffer.from(payload), size = data.length;
  const long = wide || size >= 1 << 16;
  const header = Buffer.alloc(long ? 10 : size < 126 ? 2 : 4);
  header[0] = (fin ? 0x80 : 0) | rsv << 4 | op;
  header[1] = (mask ? 0x80 : 0) | (long ? 127 : size < 126 ? size : 126);
  if (long) header.writeBigUInt64BE(BigInt(size), 2);
  else if (size >= 126) header.writeUInt16BE(size, 2);
  return Buffer.concat([header, data]);
}

const close = (/** @type {number} */ code, reason = "") => frame(8, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));

test(`messages come out as they went in, however they are cut (seed ${seed})`, () => {
  const r = random(seed);
  for (let run = 0; run < 200; run++) {
    const want = [], wire = [];
    for (let n = r.below(6); n > 0; n--) {
      const text = "ä".repeat(r.pick([0, 1, 50, 63, 64, 200, 40_000]));
      want.push(`1 ${text}`);
      const data = Buffer.from(text);
      const cuts = [...new Set([0, ...Array.from({ length: r.below(4) }, () => r.below(data.length + 1)), data.length])].sort((a, b) => a - b);
      if (cuts.length === 1) cuts.push(0);
      for (let i = 1; i < cuts.length; i++) {
        wire.push(frame(i === 1 ? 1 : 0, data.subarray(cuts[i - 1], cuts[i]), { fin: i === cuts.length - 1, wide: r.below(2) === 1 }));
        if (i < cuts.length - 1 && r.below(2)) {
          wire.push(frame(9, "ping"));
          want.splice(-1, 0, "9 ping");
        }
      }
    }
    /** @type {string[]} */
    const got = [];
    const decoder = new Decoder((op, payload) => got.push(`${op} ${payload}`));
    const all = Buffer.concat(wire);
    for (let at = 0; at < all.length;) {
      const size = 1 + r.below(r.pick([1, 3, 500, 100_000]));
      decoder.push(all.subarray(at, at += size));
    }
    assert.deepEqual(got, want);
  }
});

for (const [name, bytes] of /** @type {[string, Buffer][]} */ ([
  ["a reserved bit", frame(1, "x", { rsv: 4 })],
  ["a masked frame", frame(1, "x", { mask: true })],
  ["an unknown opcode", frame(3, "x")],
  ["an unknown control opcode", frame(11, "x")],
  ["a control frame in pieces", frame(9, "x", { fin: false })],
  ["a control frame that is too long", frame(9, "x".repeat(126))],
  ["a continuation of nothing", frame(0, "x")],
  ["a message within a message", Buffer.concat([frame(1, "x", { fin: false }), frame(1, "y")])],
  ["a message of an exabyte", Buffer.from([0x81, 127, 0x10, 0, 0, 0, 0, 0, 0, 0])],
  ["a message that grows for ever", Buffer.concat([frame(1, "x", { fin: false }), ...Array(70).fill(frame(0, Buffer.alloc(65_000), { fin: false }))])],
])) {
  test(`frames: ${name}`, () => {
    assert.throws(() => new Decoder(() => {}).push(bytes), { code: name.includes("exabyte") || name.includes("grows") ? 1009 : 1002 });
  });
}

/**
 * Runs a server that answers one upgrade, and a client that connects to it.
 *
 * @param {import("node:test").TestContext} t
 * @param {(socket: import("node:net").Socket, accept: string, request: string) => void} answer
 * @param {(socket: import("../src/socket.js").Socket) => void} [opened]
 * @returns {Promise<{end: Ending, messages: string[], pings: number, heard: Buffer}>} once the connection has ended
 */
async function exchange(t, answer, opened = () => {}) {
  const heard = /** @type {Buffer[]} */ ([]);
  let gone = () => {};
  const left = new Promise(resolve => { gone = () => resolve(null); });
  const server = createServer(socket => {
    let request = "";
    socket.on("error", () => {});
    socket.on("close", gone);
    socket.on("data", data => {
      if (request.includes("\r\n\r\n")) return void heard.push(data);
      request += data;
      const key = /sec-websocket-key: (.*)\r\n/i.exec(request)?.[1];
      if (request.includes("\r\n\r\n")) answer(socket, createHash("sha1").update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64"), request);
    });
  });
  await new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(null)));
  t.after(() => server.close());
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return new Promise(resolve => {
    const messages = /** @type {string[]} */ ([]);
    let pings = 0;
    const socket = openSocket({ url: new URL(`ws://127.0.0.1:${port}/x?y=1`), protocols: ["a", "b"], authorization: "Bearer k" }, {
      open: () => opened(socket),
      message: text => messages.push(text),
      ping: () => pings++,
      close: end => left.then(() => resolve({ end, messages, pings, heard: Buffer.concat(heard) })),
    });
  });
}

const switching = (/** @type {string} */ accept, more = "") =>
  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${more}\r\n`;

test("the upgrade, messages with the answer, a ping, the server's close", async t => {
  let request = "";
  const { end, messages, pings, heard } = await exchange(t, (socket, accept, text) => {
    request = text;
    socket.write(Buffer.concat([Buffer.from(switching(accept, "Sec-WebSocket-Protocol: b\r\n")), frame(1, "first"), frame(9, "are you there"),
      frame(1, "\ufeff\u0000\u{1f600}"), close(4100, "stolen ü"), frame(1, "after the end")]));
  });
  assert.match(request, /^GET \/x\?y=1 HTTP\/1\.1\r\n/);
  for (const header of ["upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-protocol: a, b", "authorization: bearer k"]) {
    assert.ok(request.toLowerCase().includes(`\r\n${header}\r\n`), header);
  }
  assert.deepEqual([end.code, end.reason, messages, pings], [4100, "stolen ü", ["first", "\ufeff\u0000\u{1f600}"], 1]);
  const [pong, bye] = unmask(heard);
  assert.deepEqual([pong, bye], ["10 are you there", `8 ${String.fromCharCode(0x10, 0x04)}`]);
});

/** The frames that a client sent. @param {Buffer} data */
function unmask(data) {
  const out = [];
  for (let at = 0; at < data.length;) {
    const op = data.readUInt8(at) & 15;
    assert.ok(data.readUInt8(at + 1) & 0x80, "a client's frames are masked");
    let size = data.readUInt8(at + 1) & 127;
    at += 2;
    if (size === 126) size = data.readUInt16BE((at += 2) - 2);
    else if (size === 127) size = Number(data.readBigUInt64BE((at += 8) - 8));
    const mask = data.subarray(at, at += 4);
    out.push(`${op} ${data.subarray(at, at += size).map((byte, i) => byte ^ Number(mask[i & 3]))}`);
  }
  return out;
}

for (const size of [0, 125, 126, 65_535, 65_536, 200_000]) {
  test(`sending ${size} bytes, then closing`, async t => {
    const { end, heard } = await exchange(t, (socket, accept) => {
      socket.write(switching(accept));
      let all = Buffer.alloc(0);
      socket.on("data", data => {
        all = Buffer.concat([all, data]);
        if (all.length > size && all.includes(0x88, size)) socket.write(close(1000));
      });
    }, socket => {
      socket.send("x".repeat(size));
      socket.close(1000);
      socket.send("too late");
    });
    assert.equal(end.code, 1000);
    assert.deepEqual(unmask(heard).map(f => f.length), [2 + size, 4]);
  });
}

for (const [name, answer, check] of /** @type {[string, (socket: import("node:net").Socket, accept: string) => void, (end: Ending) => unknown][]} */ ([
  ["an error of Rollcall's", s => s.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nX-Request-Id: r-1\r\nConnection: close\r\n\r\n"
    + `{"message":"draining","statusCode":503,"code":"unavailable"}`),
  end => end.refusal?.code === "unavailable" && end.refusal.retryAfterMs === 7000 && end.refusal.requestId === "r-1" && !end.refusal.final],
  ["an error of another's", s => s.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n<h1>404</h1>"), end => end.refusal?.status === 404 && end.refusal.final],
  ["a page", s => s.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), end => end.refusal?.status === 200],
  ["a redirect", s => s.end("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), end => end.refusal?.status === 302],
  ["another key's accept", s => s.write(switching("AAAAAAAAAAAAAAAAAAAAAAAAAAA=")), end => end.code === 1006 && end.error],
  ["a protocol that was not offered", (s, a) => s.write(switching(a, "Sec-WebSocket-Protocol: c\r\n")), end => end.code === 1006 && end.error],
  ["an extension that was not offered", (s, a) => s.write(switching(a, "Sec-WebSocket-Extensions: permessage-deflate\r\n")), end => end.code === 1006 && end.error],
  ["nothing", s => s.destroy(), end => end.code === 1006 && end.error],
  ["no HTTP", s => s.end("hello\r\n\r\n"), end => end.code === 1006 && end.error],
  ["an end without a close frame", (s, a) => s.end(Buffer.concat([Buffer.from(switching(a)), frame(1, "x")])), end => end.code === 1006],
  ["an end within a frame", (s, a) => s.end(Buffer.concat([Buffer.from(switching(a)), frame(1, "xyz").subarray(0, 3)])), end => end.code === 1006],
  ["a reset", (s, a) => s.write(switching(a), () => s.resetAndDestroy()), end => end.code === 1006],
  ["text that is not UTF-8", (s, a) => s.write(Buffer.concat([Buffer.from(switching(a)), frame(1, Buffer.from([0xff]))])), end => end.code === 1006 && end.error],
  ["a binary message", (s, a) => s.write(Buffer.concat([Buffer.from(switching(a)), frame(2, "x")])), end => end.code === 1006 && end.error],
  ["a close frame without a code", (s, a) => s.write(Buffer.concat([Buffer.from(switching(a)), frame(8, "")])), end => end.code === 1005],
  ["a close frame of one byte", (s, a) => s.write(Buffer.concat([Buffer.from(switching(a)), frame(8, "x")])), end => end.code === 1005 || end.error],
])) {
  test(`a server that answers with ${name}`, async t => {
    const { end } = await exchange(t, answer);
    assert.ok(check(end), JSON.stringify(end));
  });
}

test("a body without an end is not waited for", async t => {
  const { end } = await exchange(t, socket => {
    socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    const more = setInterval(() => socket.write("x".repeat(10_000)), 1);
    socket.on("close", () => clearInterval(more));
  });
  assert.equal(end.refusal?.status, 400);
});

test("a connection that is given up before it is open", async t => {
  for (const how of /** @type {const} */ (["close", "drop"])) {
    const server = createServer(() => {});
    await new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(null)));
    t.after(() => server.close());
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    const end = await new Promise(resolve => {
      const ignore = () => {};
      openSocket({ url: new URL(`ws://127.0.0.1:${port}`), protocols: [] }, { open: ignore, message: ignore, ping: ignore, close: resolve })[how]();
    });
    assert.equal(end.code, 1006);
  }
});
