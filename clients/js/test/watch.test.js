/** @import { LiveQuery } from "../src/index.js" */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Manage, StatusError } from "../src/index.js";
import { clock, fakeWebSocket, idle } from "./fake.js";
import { model } from "./model.js";
import { random, seed } from "./random.js";

const row = (/** @type {string} */ id, createdAt = 1) => ({ serverId: id, ipAddress: "203.0.113.1", createdAt, clientId: id, login: null, license: null });
const init = { type: "init", success: true, total: 1, filteredTotal: 1, authorizedSessionCount: 0, lastConnectionTime: 7, items: [row("a")], page: 1, pageSize: 10 };

/**
 * @param {import("node:test").TestContext} t
 * @param {{query?: Partial<LiveQuery>, pings?: boolean, fetch?: any}} [options]
 */
function start(t, { query, pings = false, fetch = async () => new Response(JSON.stringify(init)) } = {}) {
  const time = clock(t);
  const fake = fakeWebSocket({ pings });
  const watch = new Manage({ url: "https://x.example", WebSocket: fake.WebSocket, fetch }).watch({ application: "1", ...query });
  t.after(() => watch.close());
  return { watch, fake, time, ids: () => watch.view?.items.map(r => r.serverId).join() };
}

test(`views are whole flushes, whatever breaks in between (seed ${seed})`, async t => {
  const r = random(seed);
  const { watch, fake, time } = start(t, { query: { pageSize: 4 } });
  const server = model(r, 4);
  /** @type {unknown[]} */
  let truth = [];
  watch.on("change", ({ view }) => assert.deepEqual(view.items, truth, "a view that never was"));
  for (let connection = 0; connection < 60; connection++) {
    const socket = await fake.opened();
    truth = server.show(1);
    socket.says(server.init(1));
    for (let flush = r.below(12); flush > 0; flush--) {
      const before = server.show(1);
      server.churn();
      const messages = server.flush(before, 1);
      if (r.below(10) === 0) { // cut off in the middle
        socket.says(...messages.slice(0, r.below(messages.length)));
        break;
      }
      truth = server.show(1);
      socket.says(...messages);
      await time.pass(r.pick([4, 10, 200]));
      assert.deepEqual(watch.view?.items, truth);
      assert.equal(watch.view?.total, server.total());
    }
    socket.ends();
    await idle();
    assert.equal(watch.stale, true);
    server.churn();
    await time.pass(15_000);
  }
});

test("a flush that comes in pieces is shown whole; an endless one is shown at times", async t => {
  const { watch, fake, time, ids } = start(t);
  const socket = await fake.opened();
  socket.says(init);
  assert.equal(ids(), "a");
  socket.says({ type: "removed", serverId: "a" });
  await time.pass(3);
  socket.says({ type: "added", row: row("b") });
  assert.equal(ids(), "a");
  await time.pass(4);
  assert.equal(ids(), "b");
  let changes = 0;
  watch.on("change", () => changes++);
  for (let i = 0; i < 100; i++) {
    socket.says({ type: "last_connection_time", value: i });
    await time.pass(2);
  }
  assert.ok(changes >= 3 && changes <= 5, `${changes} changes in 200 ms`);
});

test("out of step: the last good view stays, stale, until a fresh page", async t => {
  const { watch, fake, time, ids } = start(t);
  const socket = await fake.opened();
  socket.says(init, { type: "added", row: row("b", 2) }, { type: "removed", serverId: "nobody" }, { type: "added", row: row("c", 3) });
  await time.pass(10);
  assert.deepEqual([ids(), watch.stale, watch.state], ["a", true, "waiting"]);
  await time.pass(200);
  (await fake.opened()).says({ ...init, items: [row("z")] });
  assert.deepEqual([ids(), watch.stale], ["z", false]);
});

for (const bad of ["no JSON", "[]", "null", JSON.stringify({ type: "added", row: null })]) {
  test(`a message that is none: ${bad}`, async t => {
    const { fake, time } = start(t);
    (await fake.opened()).says(init, bad);
    await time.pass(200);
    assert.equal(fake.sockets.length, 2);
  });
}

test("the server ends the stream for good", async t => {
  const { watch, fake, time } = start(t);
  const socket = await fake.opened();
  socket.says(init, { type: "error", success: false, code: "api_key_revoked", message: "it was" });
  socket.ends(1008, "api_key_revoked");
  await time.pass(3600_000);
  assert.deepEqual([watch.state, fake.sockets.length, watch.view?.items.length], ["closed", 1, 1]);
  await assert.rejects(async () => { for await (const _ of watch); }, error => error instanceof StatusError && error.code === "api_key_revoked");
});

test("a draining node: again, elsewhere", async t => {
  const { watch, fake, time } = start(t);
  const socket = await fake.opened();
  socket.says(init, { type: "error", success: false, code: "unavailable", message: "draining" });
  socket.ends(1001);
  await time.pass(200);
  assert.deepEqual([fake.sockets.length, watch.state], [2, "connecting"]);
});

test("an upgrade that fails: HTTP says why", async t => {
  /** @type {[number, object, Record<string, string>][]} */
  const answers = [
    [503, { statusCode: 503, code: "unavailable", message: "x" }, { "retry-after": "5" }],
    [200, init, {}],
    [403, { success: false, code: "plan_restricted", message: "the plan" }, {}],
  ];
  /** @type {string[]} */
  const asked = [];
  const { watch, fake, time } = start(t, {
    query: { page: 3, search: "x&y=ä" },
    fetch: async (/** @type {URL} */ url) => {
      asked.push(url.search);
      const [status, body, headers] = answers.shift() ?? [500, {}, {}];
      return new Response(JSON.stringify(body), { status, headers });
    },
  });
  /** @type {any[]} */
  const states = [];
  watch.on("state", s => states.push(s));
  await idle();
  fake.sockets[0]?.ends();
  await time.pass(5199);
  assert.equal(fake.sockets.length, 1);
  assert.equal(Math.round(states[0].retryInMs), 5200);
  await time.pass(1);
  fake.sockets[1]?.ends();
  await time.pass(1000);
  assert.match(states.findLast(s => s.state === "waiting").error.message, /proxy/);
  fake.sockets[2]?.ends();
  await time.pass(3600_000);
  assert.equal(fake.sockets.length, 3);
  await assert.rejects(watch.ready, { code: "plan_restricted", status: 403 });
  assert.equal(asked[0], "?applicationId=1&page=1&pageSize=1&searchString=x%26y%3D%C3%A4");
});

test("one query at a time, the newest next", async t => {
  const { watch, fake } = start(t, { query: { page: 2 } });
  const socket = await fake.opened();
  assert.equal(socket.url, "wss://x.example/api/v1/wss/get-application-sessions?applicationId=1&page=2&totals=true");
  watch.query({ page: 3 }); // before there is a connection to ask on
  socket.says({ ...init, page: 2 });
  assert.deepEqual(socket.sent, [{ type: "query", page: 3, pageSize: 10, searchString: "", categories: ["license"] }]);
  watch.query({ search: "a" });
  watch.query({ search: "ab", categories: ["ip"] });
  assert.equal(socket.sent.length, 1);
  socket.says({ type: "added", row: row("b", 2) }, { ...init, page: 3 });
  assert.equal(watch.view?.query.page, 3);
  assert.equal(watch.moving, true);
  assert.deepEqual(socket.sent[1], { type: "query", page: 1, pageSize: 10, searchString: "ab", categories: ["ip"] });
  socket.says({ ...init, items: [] });
  assert.deepEqual([watch.moving, watch.view?.query.search, watch.view?.items.length, socket.sent.length], [false, "ab", 0, 2]);
});

test("a query while there is no connection is what the next asks for", async t => {
  const { watch, fake, time } = start(t);
  (await fake.opened()).says(init);
  fake.sockets[0]?.ends();
  await idle();
  watch.query({ pageSize: 7 });
  await time.pass(200);
  const socket = await fake.opened();
  assert.match(socket.url, /pageSize=7/);
  socket.says({ ...init, pageSize: 7 });
  assert.deepEqual([watch.moving, socket.sent.length], [false, 0]);
});

test("quiet: the page is asked for again, and a dead connection is noticed", async t => {
  const { watch, fake, time } = start(t);
  const socket = await fake.opened();
  socket.says(init);
  for (let i = 1; i < 4; i++) {
    await time.pass(60_000);
    assert.equal(socket.frames("query").length, i);
    socket.says(init);
    await time.pass(10);
  }
  assert.equal(watch.state, "open");
  await time.pass(60_000);
  await time.pass(14_999);
  assert.equal(watch.state, "open");
  await time.pass(1);
  assert.deepEqual([watch.state, watch.stale], ["waiting", true]);
});

test("where pings can be seen, they are enough", async t => {
  const { watch, fake, time } = start(t, { pings: true });
  const socket = await fake.opened();
  socket.says(init);
  for (let i = 0; i < 5; i++) {
    await time.pass(89_000);
    socket.ping();
  }
  assert.deepEqual([watch.state, socket.sent.length], ["open", 0]);
  await time.pass(90_000);
  assert.equal(watch.state, "waiting");
});

test("a WebSocket that cannot send a key says what to do", async () => {
  class Browser {
    /** @param {string} _ @param {any} protocols */
    constructor(_, protocols) {
      if (typeof protocols !== "string" && !Array.isArray(protocols)) throw new SyntaxError("[object Object]");
    }
  }
  const watch = new Manage({ url: "https://x.example", key: "rck_x", WebSocket: /** @type {any} */ (Browser) }).watch({ application: "1" });
  await assert.rejects(watch.ready, /in a browser, sign in/);
});

test("close while it waits, and while it connects", async t => {
  const { watch, fake, time } = start(t);
  (await fake.opened()).ends();
  await idle();
  watch.close();
  await idle();
  assert.equal(watch.state, "closed");
  await time.pass(60_000);
  assert.equal(fake.sockets.length, 1);
});
