import assert from "node:assert/strict";
import { test } from "node:test";
import { Manage } from "../src/index.js";

const application = "550e8400-e29b-41d4-a716-446655440000", session = "44444444-4444-4444-8444-444444444444";

/** @param {Record<string, unknown>} body @param {Record<string, string>} [headers] */
function answering(body, headers = {}) {
  /** @type {string[]} */
  const missing = [];
  /** @type {{url: URL, init: RequestInit}[]} */
  const calls = [];
  const manage = new Manage({
    url: "http://rollcall.test/prefix/", key: "rck_x", onPartial: m => missing.push(m),
    fetch: async (url, init) => {
      calls.push({ url: new URL(String(url)), init: init ?? {} });
      return new Response(JSON.stringify(body), { headers });
    },
  });
  return { manage, missing, calls };
}

test("an act that did not reach every node says so, though it answers with a number", async () => {
  for (const headers of [{ "rollcall-partial": "nodes, store" }, {}]) {
    const { manage, missing } = answering({ success: true, disconnectedCount: 3 }, /** @type {any} */ (headers));
    const createdBefore = "2026-01-31T15:04:05.000Z";
    assert.equal(await manage.disconnectMatching(application, { search: "x", createdBefore }), 3);
    assert.equal(await manage.disconnect(application, session), 3);
    assert.equal(await manage.revokeAll(application), 3);
    assert.deepEqual(missing, "rollcall-partial" in headers ? Array(3).fill("nodes, store") : []);
  }
});

test("a preview is a dry run, and the act is not", async () => {
  const { manage, calls } = answering({ dryRun: true, count: 2, createdBefore: "2026-01-31T15:04:05.000Z", disconnectedCount: 2 });
  const { createdBefore } = await manage.previewDisconnect(application, { search: "%&=+ \u202e" });
  await manage.disconnectMatching(application, { search: "", createdBefore, reason: "r" });
  assert.deepEqual(calls.map(({ url, init }) => [init.method, url.pathname + url.search, JSON.parse(String(init.body))]), [
    ["POST", `/prefix/api/v1/applications/${application}/sessions:disconnect?dryRun=true`, { searchString: "%&=+ \u202e" }],
    ["POST", `/prefix/api/v1/applications/${application}/sessions:disconnect`, { searchString: "", createdBefore, reason: "r" }],
  ]);
});

test("an id that is no UUID reaches no other route", async () => {
  const { manage, calls } = answering({});
  for (const id of ["", "..", "*", "a/b", `${session}/`, ` ${session}`, `${session}\n`]) {
    await assert.rejects(manage.disconnect(application, id), TypeError);
    await assert.rejects(manage.revokeAll(id), TypeError);
    await assert.rejects(manage.disconnectMatching(id, { search: "", createdBefore: "" }), TypeError);
    await assert.rejects(manage.series(id), TypeError);
  }
  assert.equal(calls.length, 0);
});
