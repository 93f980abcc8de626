/** @import { Row, Session } from "../../src/index.js" */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manage, StatusError } from "../../src/index.js";
import { random, seed } from "../random.js";
import { control, eventually, hold, manage, server, settled, token, watch } from "./setup.js";

test(`sessions come, go and change: every watch shows what the list answers (seed ${seed})`, async t => {
  const r = random(seed);
  const watches = [
    watch(t), watch(t, { pageSize: 3 }), watch(t, { page: 2, pageSize: 5 }), watch(t, { search: "lic-1", pageSize: 50 }),
    watch(t, { search: "client-1", categories: ["clientId", "license"], pageSize: 4 }),
  ];
  const moving = watch(t, { pageSize: 2 });
  await Promise.all([moving, ...watches].map(w => w.ready));
  const tokens = await Promise.all([0, 1, 2].map(i => token({ license: `LIC-${i}`, sub: `<img onerror=alert(${i})>` })));
  /** @type {Session[]} */
  const held = [];
  let made = 0;
  for (const until = Date.now() + 3000; Date.now() < until || made <= 50;) {
    for (let n = r.below(4); n > 0; n--) {
      const clientId = `client-${made++}`;
      held.push(hold(t, r.below(2) ? { token: r.pick(tokens), clientId } : { publishableKey: server.publishableKey, clientId }).start());
    }
    if (held.length > 15) for (const session of held.splice(0, 1 + r.below(8))) session.bye();
    const one = r.pick(held.length ? held : [null]);
    if (one?.info && !one.info.authorized) one.authorize(r.pick(tokens));
    if (r.below(10) === 0) moving.query(r.pick([{ page: 2 }, { page: 1 }, { search: "lic" }, { search: "" }, { pageSize: 7 }, { categories: ["ip"] }]));
    if (r.below(60) === 0) await control("cut");
    await sleep(r.below(30));
  }
  await eventually("the sessions are open", () => held.every(session => session.state === "open"));
  for (const w of [moving, ...watches]) await settled(w);
  assert.deepEqual([watches[0]?.view?.items.length, watches[0]?.view?.total], [Math.min(10, held.length), held.length]);
  assert.ok((watches[3]?.view?.filteredTotal ?? 0) < held.length);
  await Promise.all(held.map(session => session.bye()));
  for (const w of [moving, ...watches]) await settled(w);
  assert.equal(watches[0]?.view?.total, 0);
});

test("changes say what was added, updated and removed", async t => {
  const w = watch(t);
  await w.ready;
  const added = w.once("change");
  const session = hold(t, { publishableKey: server.publishableKey, clientId: "<script>evil</script>", minBackoffMs: 60_000, maxBackoffMs: 60_000 }).start();
  await session.ready;
  const first = await added;
  assert.deepEqual(first.added.map(row => [row.clientId, row.login, row.license]), [["<script>evil</script>", null, null]]);
  assert.ok(!first.reset && Object.isFrozen(first.view) && Object.isFrozen(first.view.items) && Object.isFrozen(first.added[0]));
  const updated = w.once("change");
  session.authorize(await token({ sub: "jo" }));
  assert.deepEqual((await updated).updated.map(row => row.login), ["jo"]);
  const removed = w.once("change");
  w.disconnect(/** @type {Row} */ (first.added[0]).serverId);
  assert.deepEqual((await removed).removed.map(row => row.login), ["jo"]);
  assert.equal(w.view?.items.length, 0);
  assert.equal(first.view.items.length, 1, "an older view stays as it was");
});

test("a lost stream: stale, then a fresh page that says only what differs", async t => {
  const session = hold(t, { publishableKey: server.publishableKey }).start();
  await session.ready;
  const w = watch(t);
  const { items } = await w.ready;
  /** @type {boolean[]} */
  const stale = [];
  w.on("state", s => stale.push(s.stale));
  const change = w.once("change");
  await control("restart");
  session.retry();
  w.retry();
  const { reset, removed } = await change;
  assert.ok(reset && stale.includes(true));
  assert.deepEqual(removed.map(row => row.serverId), items.map(row => row.serverId));
  await eventually("it is open", () => w.state === "open" && session.state === "open");
  await settled(w);
  assert.equal(w.view?.total, 1);
});

test("queries in a row: the last counts, a search starts at page 1, and what is refused changes nothing", async t => {
  const w = watch(t, { page: 3 });
  await w.ready;
  w.query({ pageSize: 5 });
  w.query({ search: "x", categories: ["ip", "license"] });
  w.query({ search: "127" });
  assert.equal(w.moving, true);
  await eventually("it has moved", () => !w.moving);
  assert.deepEqual(w.view?.query, { application: server.number, page: 1, pageSize: 5, search: "127", categories: ["ip", "license"] });
  const refused = w.once("refused");
  w.query({ pageSize: 51 });
  assert.equal((await refused).code, "validation_error");
  assert.deepEqual([w.moving, w.view?.query.pageSize, w.state], [false, 5, "open"]);
  await settled(w);
});

test("iteration yields views until the watch is closed", async t => {
  const w = watch(t);
  const seen = [];
  for await (const view of w) {
    seen.push(view.total);
    if (seen.length === 1) await hold(t, { publishableKey: server.publishableKey }).start().ready;
    if (view.total === 1) w.close();
  }
  assert.deepEqual([seen[0], seen.at(-1), w.state], [0, 1, "closed"]);
});

for (const [name, key, query, code] of /** @type {[string, string, object, string][]} */ ([
  ["a key that is none", "rck_no", {}, "api_key_invalid"],
  ["another organization's application", server.key, { application: server.otherNumber }, "application_not_found"],
  ["a page that is too large", server.key, { pageSize: 51 }, "validation_error"],
  ["a search that is too long", server.key, { search: "ä".repeat(129) }, "validation_error"],
])) {
  test(`a watch that is refused: ${name}`, async () => {
    const w = new Manage({ url: server.url, key }).watch({ application: server.number, ...query });
    const ended = w.once("end");
    await assert.rejects(w.ready, { code });
    assert.ok(await ended instanceof StatusError);
    await assert.rejects(async () => { for await (const _ of w); }, { code });
    assert.equal(w.state, "closed");
  });
}

test("a key that may not disconnect is told so, and the stream goes on", async t => {
  const session = hold(t, { publishableKey: server.publishableKey }).start();
  const { serverId } = await session.ready;
  const w = new Manage({ url: server.url, key: server.readKey }).watch({ application: server.application });
  t.after(() => w.close());
  await w.ready;
  const refused = w.once("refused");
  w.disconnect(serverId);
  assert.equal((await refused).code, "insufficient_scope");
  assert.equal(w.state, "open");
});

test("a watch that is closed at once", async () => {
  const w = manage.watch({ application: server.number });
  w.close();
  assert.equal(await w.once("end"), null);
  await assert.rejects(w.ready);
  assert.throws(() => w.disconnect("x"));
});
