import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EndedError, NetworkError, sessionIdOf, StatusError } from "../../src/index.js";
import { control, eventually, hold, manage, server, token } from "./setup.js";

test("hello, welcome, what is shown, bye", async t => {
  const clientInfo = { name: "acme", nested: { "<img onerror=alert(1)>": "\u202e\u0000\u{1f600}" } };
  const session = hold(t, { token: await token({ sub: "jo@example.com", license: "L-1" }), clientId: "client-001", hostname: "mbp", clientInfo });
  /** @type {string[]} */
  const states = [];
  session.on("state", ({ state }) => states.push(state));
  const welcome = await session.start().ready;
  assert.deepEqual(session.info, welcome);
  assert.equal(sessionIdOf(welcome.serverId), welcome.sessionId);
  assert.equal(welcome.authorized, true);
  let shown = await manage.session(server.application, welcome.sessionId, { details: true });
  assert.deepEqual(shown.clientInfo, clientInfo);
  assert.equal(shown.name, "jo@example.com on mbp");
  assert.equal(shown.details?.license, "L-1");
  session.update({ name: "Jo's", hostname: "" });
  await eventually("the update is shown", async () => {
    shown = await manage.session(server.application, welcome.sessionId);
    return shown.name === "Jo's" && shown.hostname === null;
  });
  const { lastActiveAt = "" } = shown;
  session.activity();
  await eventually("the activity is shown", async () =>
    /** @type {string} */ ((await manage.session(server.application, welcome.sessionId)).lastActiveAt) >= lastActiveAt);
  await session.bye();
  assert.equal(await session.closed, null);
  assert.deepEqual(states, ["connecting", "authenticating", "connecting", "open", "closed"]);
  await eventually("the record says client_closed", async () =>
    (await manage.session(server.application, welcome.sessionId, { details: true })).details?.endReason === "client_closed");
});

test("an operator's disconnect: the event, and nothing more until there is another token", async t => {
  /** @type {string[]} */
  const reasons = [];
  /** @type {(token: string) => void} */
  let sign = () => {};
  const first = await token();
  const session = hold(t, {
    token: ({ reason, disconnect }) => {
      reasons.push(reason);
      if (reason === "connect") return first;
      assert.equal(disconnect?.code, 4100);
      return new Promise(resolve => { sign = resolve; });
    },
  }).start();
  const { sessionId } = await session.ready;
  const told = session.once("disconnect");
  assert.equal(await manage.disconnect(server.application, sessionId, { reason: "stolen <b>laptop</b>" }), 1);
  assert.deepEqual(await told, { code: 4100, reason: "stolen <b>laptop</b>", reauthenticate: true, reconnect: true });
  await eventually("a token is asked for", () => reasons.length === 2);
  assert.equal(session.state, "authenticating");
  await sleep(300); // several times the longest backoff
  assert.equal((await manage.live({ application: server.number })).total, 0);
  assert.equal(await manage.disconnect(server.application, sessionId), 0, "ended already");
  sign(await token());
  assert.notEqual((await session.once("welcome")).sessionId, sessionId);
  assert.deepEqual(reasons, ["connect", "reauthenticate"]);
});

test("a token that was refused is not presented again", async t => {
  const session = hold(t, { token: await token() }).start();
  const { sessionId } = await session.ready;
  await manage.disconnect(server.application, sessionId);
  const end = await session.closed;
  assert.ok(end instanceof EndedError && end.sameToken && end.code === 4100, String(end));
});

test("nobody signs in: the session ends", async t => {
  const first = await token();
  const session = hold(t, { token: ({ reason }) => reason === "connect" ? first : null }).start();
  await manage.disconnect(server.application, (await session.ready).sessionId);
  const end = await session.closed;
  assert.ok(end instanceof EndedError && !end.sameToken, String(end));
});

test("revoke-all: everyone is told, and comes back with a token from after it", async t => {
  await sleep(1100 - Date.now() % 1000); // a foreign token is judged by the second of its iat
  const sessions = [];
  for (let i = 0; i < 5; i++) {
    /** @type {string[]} */
    const reasons = [];
    const session = hold(t, {
      token: async ({ reason }) => {
        reasons.push(reason);
        if (reason === "reauthenticate") await sleep(1100);
        return (await manage.issueToken(server.application, { login: `user-${i}@example.com`, expiresIn: 600 })).token;
      },
    });
    sessions.push({ session, reasons });
    await session.start().ready;
  }
  const disconnects = sessions.map(s => s.session.once("disconnect"));
  const back = sessions.map(s => s.session.once("welcome"));
  assert.equal(await manage.revokeAll(server.application, { reason: "leaked secret" }), 5);
  for (const d of await Promise.all(disconnects)) assert.deepEqual([d.code, d.reason], [4103, "leaked secret"]);
  await Promise.all(back);
  for (const { reasons } of sessions) assert.deepEqual(reasons, ["connect", "reauthenticate"]);
  assert.equal((await manage.live({ application: server.number })).total, 5);
});

test("a token is renewed before it runs out", async t => {
  await sleep(1100 - Date.now() % 1000); // after the revocation's second
  /** @type {string[]} */
  const reasons = [];
  let asked = 0;
  const session = hold(t, {
    token: ({ reason }) => {
      reasons.push(reason);
      if (++asked === 2) throw new Error("the issuer is away");
      return token({ ttl: reason === "connect" ? "3" : "600" });
    },
  });
  const failed = session.once("error");
  const { sessionId, tokenExpiresAt } = await session.start().ready;
  assert.deepEqual(await session.once("expiring"), { tokenExpiresAt });
  assert.equal((await failed).message, "the issuer is away");
  const renewed = await session.once("authorized");
  assert.ok(renewed.tokenExpiresAt > String(tokenExpiresAt));
  assert.deepEqual(reasons, ["connect", "renew", "renew"]);
  assert.equal(session.info?.sessionId, sessionId);
});

test("an unauthorized session is authorized, and what is refused is told", async t => {
  const session = hold(t, { publishableKey: server.publishableKey });
  assert.equal((await session.start().ready).authorized, false);
  const refused = session.once("error");
  session.authorize("nonsense");
  const error = await refused;
  assert.ok(error instanceof StatusError && error.code === "token_invalid", String(error));
  const taken = session.once("authorized");
  session.authorize(await token());
  await taken;
});

test("a lost connection is taken up again, with what was changed meanwhile", async t => {
  const session = hold(t, { publishableKey: server.publishableKey, name: "before" }).start();
  const { sessionId } = await session.ready;
  session.update({ name: "after" });
  const waiting = new Promise(resolve => session.on("state", s => { if (s.state === "waiting") resolve(s.error); }));
  const back = session.once("welcome");
  await control("cut");
  assert.ok(await waiting instanceof NetworkError);
  const again = await back;
  assert.notEqual(again.sessionId, sessionId);
  assert.equal((await manage.session(server.application, again.sessionId)).name, "after");
});

test("a node that drains says when to come back, and the session does", async t => {
  const session = hold(t, { publishableKey: server.publishableKey }).start();
  await session.ready;
  const told = session.once("disconnect");
  const back = session.once("welcome");
  await control("restart");
  const { code, reconnect, reauthenticate, retryAfterMs } = await told;
  assert.deepEqual([code, reconnect, reauthenticate], [1001, true, false]);
  assert.ok(Number(retryAfterMs) >= 0);
  session.retry();
  await back;
});

test("an application that is paused: the session stays away", async t => {
  await control("restart"); // also forgets what other tests asked of the rate limits
  const session = hold(t, { publishableKey: server.publishableKey }).start();
  await session.ready;
  const told = session.once("disconnect");
  await manage.patchApplication(server.application, { state: "paused" });
  t.after(() => manage.patchApplication(server.application, { state: "active" }));
  assert.deepEqual((({ code, reconnect }) => ({ code, reconnect }))(await told), { code: 4101, reconnect: false });
  const end = await session.closed;
  assert.ok(end instanceof EndedError && end.code === 4101, String(end));
  assert.equal(session.state, "closed");
});

for (const [name, options, code, cause] of /** @type {[string, object, number, string | undefined][]} */ ([
  ["a publishable key that is none", { publishableKey: "rca_aaaaaaaaaaaaaaaa" }, 4203, "publishable_key_invalid"],
  ["a client id that is too short", { publishableKey: server.publishableKey, clientId: "x" }, 4302, undefined],
  ["a name that is too long", { publishableKey: server.publishableKey, name: "n".repeat(257) }, 4302, undefined],
  ["half a surrogate pair", { publishableKey: server.publishableKey, name: "\ud83d" }, 4302, undefined],
  ["a token that is none", { token: "nonsense", application: server.number }, 4203, "token_invalid"],
])) {
  test(`refused for good: ${name}`, async t => {
    const session = hold(t, options).start();
    const end = await session.closed;
    assert.ok(end instanceof EndedError, String(end));
    assert.deepEqual([end.code, /** @type {any} */ (end.cause)?.code], [code, cause]);
    assert.notEqual(end.disconnect.reason, "");
  });
}

test("bye before, while and after connecting", async t => {
  const never = hold(t, { publishableKey: server.publishableKey });
  await never.bye();
  assert.equal(never.state, "closed");
  const early = hold(t, { publishableKey: server.publishableKey }).start();
  await early.bye();
  await early.bye();
  const asking = hold(t, { token: () => new Promise(() => {}) }).start();
  await asking.bye();
  assert.equal(await asking.closed, null);
  await eventually("nobody is left", async () => (await manage.live({ application: server.number })).total === 0);
});

test("nobody listens", async t => {
  const session = hold(t, { url: "http://127.0.0.1:9", publishableKey: server.publishableKey }).start();
  const { error, retryInMs } = await new Promise(resolve => session.on("state", s => { if (s.state === "waiting") resolve(s); }));
  assert.ok(error instanceof NetworkError, String(error));
  assert.ok(retryInMs >= 0 && retryInMs <= 200);
});

test("a server that has no such route", async t => {
  const session = hold(t, { url: `${server.url}/nowhere`, publishableKey: server.publishableKey }).start();
  const end = await session.closed;
  assert.ok(end instanceof StatusError && end.status === 404, String(end));
});
