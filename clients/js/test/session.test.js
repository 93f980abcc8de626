/** @import { SessionEvents, SessionOptions } from "../src/index.js" */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EndedError, Session } from "../src/index.js";
import { clock, fakeWebSocket, idle } from "./fake.js";

const welcome = { type: "welcome", sessionId: "s-1", serverId: "srv:s-1", authorized: false, pingIntervalMs: 25_000 };

/**
 * @param {import("node:test").TestContext} t
 * @param {Partial<SessionOptions> & {pings?: boolean}} [options]
 */
function start(t, { pings = false, ...options } = {}) {
  const time = clock(t);
  const fake = fakeWebSocket({ pings });
  const session = new Session({ url: "https://x.example/base/", publishableKey: "rca_0123456789abcdef", WebSocket: fake.WebSocket, ...options });
  /** @type {{type: keyof SessionEvents, value: any}[]} */
  const events = [];
  for (const type of /** @type {(keyof SessionEvents)[]} */ (["welcome", "expiring", "authorized", "disconnect", "error", "state", "end"])) {
    session.on(type, value => events.push({ type, value }));
  }
  const waits = () => events.filter(e => e.value?.state === "waiting").map(e => Math.round(e.value.retryInMs));
  return { session: session.start(), fake, time, events, waits };
}

test("hello", async t => {
  const { fake } = start(t, { application: "123456789", clientId: "client-1", clientInfo: { a: 1 }, name: undefined });
  const socket = await fake.opened();
  assert.equal(socket.url, "wss://x.example/base/api/v1/connect");
  assert.deepEqual(socket.options, ["rollcall.session.v1"]);
  assert.deepEqual(socket.sent, [{
    type: "hello", application: "123456789", clientId: "client-1", clientInfo: { a: 1 }, publishableKey: "rca_0123456789abcdef",
  }]);
});

test("waits grow, and start anew after a session that lasted", async t => {
  const { fake, time, waits } = start(t);
  for (let i = 0; i < 7; i++) {
    (await fake.opened()).ends();
    await time.pass(30_000);
  }
  const socket = await fake.opened();
  socket.says(welcome);
  await time.pass(9_999);
  socket.ends();
  await time.pass(30_000);
  const lasting = await fake.opened();
  lasting.says(welcome);
  await time.pass(10_000);
  lasting.ends();
  await idle();
  assert.deepEqual(waits(), [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000, 1000]);
});

for (const code of [1013, 1001]) {
  test(`${code}: not before retryAfterMs`, async t => {
    const { fake, time, waits, events } = start(t);
    const socket = await fake.opened();
    socket.says({ type: "disconnect", code, reason: "later", reauthenticate: false, reconnect: true, retryAfterMs: 7000 });
    socket.ends(code);
    await time.pass(6_999);
    assert.equal(fake.sockets.length, 1);
    assert.deepEqual(waits(), [8000], "the server's wish, and jitter on top");
    await time.pass(1_001);
    assert.equal(fake.sockets.length, 2);
    assert.equal(events.find(e => e.type === "disconnect")?.value.retryAfterMs, 7000);
  });
}

test("a wait that no timer can wait", async t => {
  const { fake, waits } = start(t);
  const socket = await fake.opened();
  socket.says({ type: "disconnect", code: 1013, reason: "", reauthenticate: false, reconnect: true, retryAfterMs: 2 ** 40 });
  socket.ends(1013);
  await idle();
  assert.deepEqual(waits(), [2 ** 31 - 1]); // timers take more for nothing
});

test("retry does not wait", async t => {
  const { session, fake } = start(t);
  (await fake.opened()).ends();
  await idle();
  assert.equal(session.state, "waiting");
  session.retry();
  await idle();
  assert.equal(fake.sockets.length, 2);
});

for (const [code, reconnects] of /** @type {[number, boolean][]} */ ([
  [1000, true], [1001, true], [1006, true], [1011, true], [1013, true], [4100, true], [4103, true], [4105, true], [4200, true], [4201, true],
  [4202, true], [4206, true], [4101, false], [4102, false], [4300, false], [4302, false], [4304, false], [1002, false], [1007, false], [1009, false],
])) {
  test(`a close frame alone: ${code}`, async t => {
    const { session, fake, time } = start(t);
    const socket = await fake.opened();
    socket.says(welcome);
    socket.ends(code, "why");
    await time.pass(2000);
    assert.equal(fake.sockets.length, reconnects ? 2 : 1);
    if (reconnects) return;
    const end = await session.closed;
    assert.ok(end instanceof EndedError && end.code === code && end.disconnect.reason === "why");
  });
}

test("reconnect: false is the last word, whatever the code", async t => {
  const { session, fake, time, events } = start(t, { token: () => "t" });
  const socket = await fake.opened();
  socket.says(welcome, { type: "disconnect", code: 4999, reason: "go", reauthenticate: true, reconnect: false });
  socket.ends(4999);
  await time.pass(3600_000);
  assert.equal(fake.sockets.length, 1);
  assert.equal(/** @type {EndedError} */ (await session.closed).code, 4999);
  assert.equal(events.filter(e => e.type === "disconnect").length, 1);
});

test("a refusal is told with its cause", async t => {
  let asked = 0;
  const { session, fake, time } = start(t, { token: () => `token-${++asked > 1 ? 2 : 1}` });
  for (let i = 0; i < 2; i++) {
    const socket = await fake.opened();
    socket.says({ type: "error", code: "token_expired", message: "it has" },
      { type: "disconnect", code: 4203, reason: "credential refused", reauthenticate: true, reconnect: true });
    socket.ends(4203);
    await time.pass(2000);
  }
  const end = await session.closed;
  assert.ok(end instanceof EndedError && end.sameToken && asked === 3);
  assert.equal(/** @type {any} */ (end.cause).code, "token_expired");
  await assert.rejects(session.ready, end);
});

test("a token that could not be had is asked for again", async t => {
  let asked = 0;
  const { fake, time, events } = start(t, {
    token: () => {
      if (++asked < 3) throw new Error("no network");
      return "token";
    },
  });
  await time.pass(1000);
  await time.pass(2000);
  assert.deepEqual((await fake.opened()).sent[0]?.token, "token");
  assert.equal(events.filter(e => e.type === "error").length, 2);
});

test("renewal is tried again until the server takes a token", async t => {
  const answers = ["first", "first", "second", "third"];
  const { fake, time, events } = start(t, { token: () => answers.shift() ?? null });
  const socket = await fake.opened();
  socket.says(welcome, { type: "token_expiring", tokenExpiresAt: "2026-01-01T00:00:00.000Z" });
  await time.pass(0);
  assert.equal(socket.frames("authorize").length, 0, "it is the same token");
  await time.pass(2000);
  assert.deepEqual(socket.frames("authorize").map(f => f.token), ["second"]);
  socket.says({ type: "error", code: "unavailable", message: "later" });
  await time.pass(3000);
  assert.deepEqual(socket.frames("authorize").map(f => f.token), ["second", "third"]);
  socket.says({ type: "authorized", tokenExpiresAt: "2026-01-01T01:00:00.000Z" });
  await time.pass(3600_000);
  assert.equal(socket.frames("authorize").length, 2);
  assert.deepEqual(events.filter(e => e.type === "authorized").map(e => e.value), [{ tokenExpiresAt: "2026-01-01T01:00:00.000Z" }]);
});

test("renewal ends with the connection", async t => {
  /** @type {AbortSignal[]} */
  const signals = [];
  const { session, fake } = start(t, {
    token: ({ reason, signal }) => {
      if (reason !== "renew") return "first";
      signals.push(signal);
      return new Promise(() => {});
    },
  });
  const socket = await fake.opened();
  socket.says(welcome, { type: "token_expiring", tokenExpiresAt: "2026-01-01T00:00:00.000Z" });
  await idle();
  socket.ends();
  await idle();
  assert.equal(signals[0]?.aborted, true);
  assert.equal(session.state, "waiting");
});

test("activity is throttled, and dropped while there is no connection", async t => {
  const { session, fake, time } = start(t);
  session.activity();
  const socket = await fake.opened();
  session.activity();
  socket.says(welcome);
  for (let i = 0; i < 1000; i++) session.activity();
  assert.equal(socket.frames("activity").length, 1);
  await time.pass(14_999);
  session.activity();
  assert.equal(socket.frames("activity").length, 1);
  await time.pass(1);
  session.activity();
  assert.equal(socket.frames("activity").length, 2);
});

test("what the server says that is unknown is ignored; what is no frame ends the connection", async t => {
  const { session, fake, time } = start(t);
  const socket = await fake.opened();
  socket.says({ type: "later" }, {}, { type: 1 }, welcome, { type: "error" });
  assert.equal(session.state, "open");
  socket.says("no JSON");
  await time.pass(1000);
  assert.equal(fake.sockets.length, 2);
});

test("a server that says nothing", async t => {
  const { fake, time } = start(t);
  await fake.opened();
  await time.pass(29_999);
  assert.equal(fake.sockets[0]?.closedWith, undefined);
  await time.pass(1);
  await time.pass(1000);
  assert.equal(fake.sockets.length, 2);
});

test("a server that says disconnect and does not close", async t => {
  const { fake, time } = start(t);
  const socket = await fake.opened();
  socket.says(welcome, { type: "disconnect", code: 1001, reason: "", reauthenticate: false, reconnect: true });
  await time.pass(2000);
  await time.pass(1000);
  assert.equal(fake.sockets.length, 2);
});

test("a server that falls silent, where pings can be seen", async t => {
  const { session, fake, time } = start(t, { pings: true });
  const socket = await fake.opened();
  socket.says(welcome);
  for (let i = 0; i < 10; i++) {
    await time.pass(50_000);
    socket.ping();
  }
  assert.equal(session.state, "open");
  await time.pass(60_000);
  assert.equal(session.state, "waiting");
});

test("where pings cannot be seen, quiet is no reason", async t => {
  const { session, fake, time } = start(t);
  (await fake.opened()).says(welcome);
  await time.pass(24 * 3600_000);
  assert.equal(session.state, "open");
});

test("bye waits a little for the server", async t => {
  const { session, fake, time } = start(t);
  const socket = await fake.opened();
  socket.says(welcome);
  const left = session.bye();
  await time.pass(1999);
  assert.deepEqual([session.state, socket.frames("bye").length], ["open", 1]);
  await time.pass(1);
  await left;
  assert.equal(session.state, "closed");
});

test("what cannot be configured", () => {
  for (const options of /** @type {any[]} */ ([{}, { publishableKey: "x" }, { url: "x", token: "t" }, { url: "ftp://x", token: "t" }])) {
    assert.throws(() => new Session(options), TypeError, JSON.stringify(options));
  }
  const session = new Session({ url: "ws://127.0.0.1:9", token: "t" });
  session.bye();
  assert.throws(() => session.start());
  assert.throws(() => session.authorize("t"), /not connected/);
});
