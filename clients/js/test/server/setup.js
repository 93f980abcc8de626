/** @import { LiveQuery, Row, Watch } from "../../src/index.js" */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { compareRows, Manage, Session } from "../../src/index.js";

/** The server that js_test.go started; the tests of this directory are run by it. */
export const server = {
  /** Behind a proxy that can be cut. */
  url: env("ROLLCALL_URL"),
  control: env("ROLLCALL_CONTROL"),
  key: env("ROLLCALL_KEY"),
  readKey: env("ROLLCALL_READ_KEY"),
  application: env("ROLLCALL_APPLICATION"),
  number: env("ROLLCALL_NUMBER"),
  otherNumber: env("ROLLCALL_OTHER_NUMBER"),
  publishableKey: env("ROLLCALL_PUBLISHABLE_KEY"),
};

/** @param {string} name */
function env(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run go test ./clients/js`);
  return value;
}

export const manage = new Manage({ url: server.url, key: server.key });

/**
 * Asks the test in Go to do something to the server.
 *
 * @param {"cut" | "restart" | "token"} what
 * @param {Record<string, string>} [query]
 */
export async function control(what, query) {
  const response = await fetch(`${server.control}/${what}?${new URLSearchParams(query)}`, { method: "POST" });
  assert.equal(response.status, 200, what);
  return response.text();
}

/** @param {Record<string, string>} [claims] */
export const token = claims => control("token", claims);

/**
 * Polls until the condition holds.
 *
 * @param {string} what is waited for
 * @param {() => unknown} condition
 */
export async function eventually(what, condition) {
  for (const deadline = Date.now() + 20_000; !await condition();) {
    if (Date.now() > deadline) throw new Error(`still not so: ${what}`);
    await sleep(10);
  }
}

/**
 * Holds a session until the test ends.
 *
 * @param {import("node:test").TestContext} t
 * @param {Partial<import("../../src/index.js").SessionOptions>} options
 */
export function hold(t, options) {
  const session = new Session({ url: server.url, minBackoffMs: 20, maxBackoffMs: 200, ...options });
  t.after(() => session.bye());
  return session;
}

/**
 * Watches until the test ends, and holds every view to what a page promises.
 *
 * @param {import("node:test").TestContext} t
 * @param {Partial<LiveQuery>} [query]
 */
export function watch(t, query) {
  const watching = manage.watch({ application: server.number, ...query });
  watching.on("change", ({ view }) => {
    assert.ok(view.items.length <= view.pageSize);
    for (let i = 1; i < view.items.length; i++) {
      assert.ok(compareRows(/** @type {Row} */ (view.items[i - 1]), /** @type {Row} */ (view.items[i])) < 0, "out of order");
    }
  });
  t.after(() => watching.close());
  return watching;
}

/**
 * Waits until the watch shows what the list answers, counts and all.
 *
 * @param {Watch} watching
 */
export async function settled(watching) {
  let difference = "";
  await eventually("the watch shows what the list answers", async () => {
    if (!watching.view || watching.moving) return false;
    const { success, message, applicationId, ...list } = await manage.live(watching.view.query);
    const { query, ...view } = watching.view;
    try {
      assert.deepEqual({ ...view }, list);
      return !watching.stale;
    } catch (error) {
      difference = String(error);
      return false;
    }
  }).catch(error => { throw new Error(`${error.message}\n${difference}`); });
}
