import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, hold, manage, server, token } from "./setup.js";

const quiet = { minBackoffMs: 60_000, maxBackoffMs: 60_000 };

test("disconnect by search: what matched at the preview and matches still", async t => {
  const stolen = await token({ license: "STOLEN-%_<b>", sub: "thief" });
  const open = (/** @type {object} */ options) => hold(t, { ...quiet, ...options }).start();
  const [kept, ...ended] = [open({ publishableKey: server.publishableKey }), open({ token: stolen }), open({ token: stolen })];
  await Promise.all([kept, ...ended].map(s => s?.ready));
  const query = /** @type {const} */ ({ search: "stolen-%_<B>", categories: ["license", "ip"] });
  const preview = await manage.previewDisconnect(server.application, { search: query.search, categories: [...query.categories] });
  assert.deepEqual([preview.count, preview.partial], [2, ""]);
  assert.equal((await manage.live({ application: server.number })).total, 3, "nothing has ended");
  const late = open({ token: stolen });
  await late.ready;
  const told = Promise.all(ended.map(s => s.once("disconnect")));
  const n = await manage.disconnectMatching(server.application, {
    search: query.search, categories: [...query.categories], createdBefore: preview.createdBefore, reason: "stolen \u202elicense",
  });
  assert.equal(n, 2);
  for (const d of await told) assert.deepEqual([d.code, d.reason], [4100, "stolen \u202elicense"]);
  assert.deepEqual([kept?.state, late.state], ["open", "open"]);
});

test("ended sessions by time and reason", async t => {
  const before = new Date();
  const session = hold(t, { ...quiet, publishableKey: server.publishableKey }).start();
  const { sessionId } = await session.ready;
  await manage.disconnect(server.application, sessionId);
  const left = hold(t, { publishableKey: server.publishableKey }).start();
  const { sessionId: gone } = await left.ready;
  await left.bye();
  const ids = async (/** @type {import("../../src/index.js").SessionQuery} */ query) => {
    const out = [];
    for await (const s of manage.allSessions(server.application, { status: "inactive", limit: 1, ...query })) out.push(s.id);
    return out;
  };
  await eventually("both are recorded", async () => (await ids({ endedAfter: before })).length === 2);
  assert.deepEqual(await ids({ endedAfter: before, endReason: "disconnected" }), [sessionId]);
  assert.deepEqual(await ids({ endedAfter: before.toISOString(), endReason: ["disconnected", "client_closed"] }), [gone, sessionId]);
  assert.ok(!(await ids({ endedBefore: before })).includes(gone));
});

test("series", async () => {
  const { stepSeconds, items, partial } = await manage.series(server.application);
  assert.deepEqual([stepSeconds, items.length, partial], [60, 61, ""]);
  assert.ok(items.reduce((sum, item) => sum + item.connects, 0) > 0);
  assert.match(String(items[0]?.time), /:00\.000Z$/);
});

test("audit", async () => {
  const from = new Date(Date.now() - 1);
  const made = await manage.createApplication({ name: "<img onerror=alert(1)>" });
  await manage.archiveApplication(made.id);
  const actions = [];
  for await (const record of manage.allAudit({ from, applicationId: made.id, limit: 1 })) {
    actions.push(record.action);
    assert.deepEqual([record.actor.type, record.applicationId], ["api_key", made.id]);
  }
  assert.deepEqual(actions, ["application.archived", "application.created"]);
  const { items } = await manage.audit({ from, action: ["application.created"], applicationId: made.id });
  assert.equal(items.length, 1);
  assert.deepEqual((await manage.audit({ to: from, applicationId: made.id })).items, []);
});
