import assert from "node:assert/strict";
import { test } from "node:test";
import { Manage, NetworkError, sessionIdOf, StatusError } from "../../src/index.js";
import { eventually, hold, manage, server, token } from "./setup.js";

test("lists, details and history", async t => {
  const names = ["<img src=x onerror=alert(1)>", "\u202egnp.exe", "'; drop table sessions; --", "\u0000\u0007", "\u{1f600}".repeat(64)];
  const license = (/** @type {number} */ i) => `T-${i} %_*`;
  const open = await Promise.all(names.map(async (name, i) => {
    const session = hold(t, { token: await token({ sub: name, license: license(i) }), name }).start();
    return { session, name, welcome: await session.ready };
  }));
  const all = new Map();
  for await (const s of manage.allSessions(server.application, { limit: 2, details: true })) {
    assert.ok(!all.has(s.id), "listed twice");
    all.set(s.id, s);
  }
  for (const { name, welcome } of open) {
    assert.equal(all.get(welcome.sessionId)?.name, name);
    assert.equal(all.get(welcome.sessionId)?.details?.login, name);
    const shown = await manage.session(server.application, welcome.sessionId);
    assert.deepEqual([shown.name, shown.details], [name, undefined]);
  }
  const found = await manage.live({ application: server.number, search: "t-3 %_*", categories: ["license", "clientId"] });
  assert.deepEqual([found.filteredTotal, found.items[0]?.login, found.applicationId, found.partial], [1, "\u0000\u0007", server.application, ""]);
  assert.equal((await manage.live({ application: server.number, search: "%" })).filteredTotal, names.length);
  const [first] = open;
  await first?.session.bye();
  const id = String(first?.welcome.sessionId);
  await eventually("it has ended", async () => (await manage.session(server.application, id)).status === "disconnected");
  const ended = await manage.sessions(server.application, { status: "inactive", limit: 1000, details: true });
  assert.ok(ended.items.some(s => s.id === id && s.details?.endReason === "client_closed"));
  const live = await manage.sessions(server.application);
  assert.ok(!live.items.some(s => s.id === id) && live.items.length === names.length - 1);
});

test("applications, limits, tokens", async () => {
  const list = await manage.applications();
  assert.ok(list.some(app => app.id === server.application && app.number === server.number && app.sessions));
  const made = await manage.createApplication({ name: "Made", idleAfter: "10m" });
  assert.equal((await manage.patchApplication(made.id, { name: "Renamed" })).name, "Renamed");
  assert.equal((await manage.application(made.id)).idleAfter, made.idleAfter);
  assert.equal((await manage.archiveApplication(made.id)).state, "archived");
  assert.equal((await manage.limits()).planName, "Pro");
  const issued = await manage.issueToken(server.application, { login: "jo", expiresIn: 60 });
  assert.match(issued.expiresAt, /^\d{4}-.*\.\d{3}Z$/);
});

test("what the server refuses", async () => {
  const reader = new Manage({ url: server.url, key: server.readKey });
  const nobody = new Manage({ url: server.url, key: "rck_no" });
  const unknown = "99999999-9999-4999-8999-999999999999";
  for (const [call, status, code] of /** @type {[() => Promise<unknown>, number, string][]} */ ([
    [() => nobody.applications(), 401, "api_key_invalid"],
    [() => reader.revokeAll(server.application), 403, "insufficient_scope"],
    [() => manage.application(unknown), 404, "application_not_found"],
    [() => manage.session(server.application, unknown), 404, "session_not_found"],
    [() => manage.live({ application: server.number, pageSize: 51 }), 400, "validation_error"],
    [() => manage.live({ application: server.otherNumber }), 404, "application_not_found"],
    [() => manage.issueToken(server.application, { expiresIn: 0 }), 400, "validation_error"],
  ])) {
    await assert.rejects(call, error => error instanceof StatusError && error.status === status && error.code === code && error.requestId !== "");
  }
});

test("ids that are none never reach the server", async () => {
  for (const id of ["", ".", "..", "x", `${server.application}/..`, `${server.application}\n`, /** @type {any} */ (undefined)]) {
    await assert.rejects(manage.disconnect(server.application, id), TypeError);
    await assert.rejects(manage.revokeAll(id), TypeError);
  }
});

test("a call that is aborted, and a server that is not there", async () => {
  const reason = new Error("changed my mind");
  await assert.rejects(manage.applications({ signal: AbortSignal.abort(reason) }), reason);
  const away = new Manage({ url: "http://127.0.0.1:9", key: server.key });
  await assert.rejects(away.applications(), NetworkError);
  assert.throws(() => new Manage({ key: server.key }), TypeError);
  assert.throws(() => new Manage({ url: "ftp://x", key: server.key }), TypeError);
  assert.equal(sessionIdOf("a:b:c"), "c");
});
