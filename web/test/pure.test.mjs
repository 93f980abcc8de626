// What needs no browser: the rows that wait for the pointer, addresses, words.
import assert from "node:assert/strict";
import { test } from "node:test";
import { compareRows } from "../../clients/js/src/index.js";
import { goDuration } from "../app/text/durations.js";
import { duration, relative } from "../app/text/format.js";
import { parts, plain } from "../app/text/visible.js";
import { statusOf } from "../app/text/status.js";
import { arrange } from "../app/state/hold.js";
import { address, parse } from "../app/state/address.js";

/** A random number generator that a failure can be repeated with. @param {number} seed */
function random(seed) {
  return (/** @type {number} */ n) => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return Math.floor((seed / 0x7fffffff) * n);
  };
}

/** @param {number} n @returns {import("../../clients/js/src/index.js").Row} */
const row = n => ({ serverId: `srv:${n}`, ipAddress: "", createdAt: n, clientId: "", login: null, license: null });

test("whatever happens to a page, nothing moves at the held row and above it, and what is shown is true when it is let go", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const pick = random(seed), size = 1 + pick(12);
    let next = size;
    let page = Array.from({ length: pick(size + 1) }, () => row(next++)).sort(compareRows);
    let shown = arrange([], page, null, size).rows;
    const held = shown.length ? shown[pick(shown.length)].row.serverId : null;
    const place = shown.findIndex(one => one.row.serverId === held);
    const above = shown.slice(0, place + 1).map(one => one.row.serverId);
    for (let step = 0; step < 20; step++) {
      if (pick(2)) page.unshift(row(next++));
      if (pick(2) && page.length) page.splice(pick(page.length), 1);
      if (pick(3) === 0 && page.length) page[0] = { ...page[0], login: String(step) };
      page = page.sort(compareRows).slice(0, size);
      const before = shown;
      const { rows, waiting } = arrange(shown, page, held, size);
      shown = rows;
      const ids = shown.map(one => one.row.serverId);
      assert.deepEqual(ids.slice(0, place + 1), above, `seed ${seed}`);
      assert.equal(new Set(ids).size, ids.length, `seed ${seed}: a row twice`);
      assert.ok(shown.length <= Math.max(size, place + 1), `seed ${seed}: more than a page`);
      const there = new Set(page.map(one => one.serverId));
      for (const one of shown) assert.equal(one.gone, !there.has(one.row.serverId), `seed ${seed}: ${one.row.serverId}`);
      if (held) assert.equal(waiting, page.filter(one => !ids.includes(one.serverId)).length, `seed ${seed}`);
      if (held && there.has(held) && !before[place].gone) assert.equal(shown[place], before[place], `seed ${seed}: the held row changed`);
    }
    const { rows, waiting } = arrange(shown, page, null, size);
    assert.deepEqual(rows.map(one => one.row), page);
    assert.ok(rows.every(one => !one.gone) && waiting === 0);
  }
});

test("a row that stays is the same object, so that it is not drawn again", () => {
  const page = [row(3), row(2), row(1)];
  const first = arrange([], page, null, 10).rows;
  const second = arrange(first, [row(4), ...page.slice(0, 2)], null, 10).rows;
  assert.equal(second[1], first[0]);
  assert.equal(second[2], first[1]);
});

test("an address says what is shown, and is read back", () => {
  const base = "http://x";
  for (const path of [
    "/", "/audit", "/applications/123456789", "/applications/123456789?search=a%20%26b&categories=ip&page=2&pageSize=50",
    "/applications/550e8400-e29b-41d4-a716-446655440000/ended?reason=revoked%2Cdisconnected&range=7d", "/audit?application=1&action=sign_in",
    "/applications/1?session=0198c5d2-7c1f-7d2e-9a55-2f4a3f0e8b11", "/applications/1/ended?range=custom&from=2026-01-01T00%3A00%3A00.000Z",
  ]) {
    const to = address(parse(new URL(path, base)));
    assert.deepEqual(parse(new URL(to, base)), parse(new URL(path, base)), path);
  }
  assert.equal(address(parse(new URL("/applications/1?page=1&pageSize=25&categories=license,ip,clientId", base))), "/applications/1");
});

test("an address that makes no sense is what is usual", () => {
  for (const [query, field, value] of /** @type {[string, string, unknown][]} */ ([
    ["page=0", "page", 1], ["page=-1", "page", 1], ["page=x", "page", 1], ["page=1.5", "page", 1], ["page=1e400", "page", 1], ["pageSize=7", "pageSize", 25],
    ["categories=nosuch", "categories", ["license", "ip", "clientId"]], ["categories=ip,ip,x", "categories", ["ip"]],
    [`search=${"x".repeat(200)}`, "search", "x".repeat(128)],
  ])) assert.deepEqual(parse(new URL(`http://x/applications/1?${query}`))[/** @type {"page"} */ (field)], value, query);
  assert.equal(parse(new URL("http://x/applications/%zz")).application, "");
});

test("what cannot be seen is named", () => {
  assert.equal(plain("a\u202eb\u0000\u200bc"), "a[U+202E]b[U+0000][U+200B]c");
  assert.deepEqual(parts("👩‍👩‍👧 می‌خواهم"), [{ part: "👩‍👩‍👧 می‌خواهم" }]); // joiners that languages and emoji need
  assert.deepEqual(parts(""), []);
});

test("times", () => {
  const now = Date.UTC(2026, 0, 1);
  for (const [ms, text] of /** @type {[number, string][]} */ ([
    [0, "just now"], [1999, "just now"], [2000, "2 s ago"], [59_999, "59 s ago"], [60_000, "1 min ago"], [3_600_000, "1 h ago"],
    [47 * 3_600_000, "47 h ago"], [48 * 3_600_000, "2 days ago"], [-1000, "just now"], [-61_000, "in 1 min"],
  ])) assert.equal(relative(now - ms, now), text);
  for (const [ms, text] of /** @type {[number, string][]} */ ([
    [34, "34 ms"], [5000, "5 s"], [65_000, "1 min 5 s"], [3_660_000, "1 h 1 min"], [90_000_000, "1 d 1 h"], [-1, "0 ms"],
  ])) assert.equal(duration(ms), text);
  assert.equal(goDuration("1h30m0s"), 5_400_000);
  assert.equal(goDuration("1m0.5s"), 60_500);
});

test("a status has its reason", () => {
  const now = Date.UTC(2026, 0, 1), ago = (/** @type {number} */ ms) => new Date(now - ms).toISOString();
  const session = (/** @type {any} */ more) => ({ id: "", name: "", status: "active", createdAt: ago(1e6), agentId: "", organizationId: "", hostname: null, userAgent: null, clientInfo: null, ...more });
  assert.equal(statusOf(session({ derivedStatus: "idle", lastActiveAt: ago(7 * 60_000) }), now).reason, "no activity for 7 min");
  assert.equal(statusOf(session({ derivedStatus: "active", lastActiveAt: ago(12_000) }), now).reason, "last activity 12 s ago");
  assert.equal(statusOf(session({ derivedStatus: "expired", tokenExpiresAt: ago(3000) }), now).reason, "the token ran out 3 s ago");
  assert.equal(statusOf(session({ derivedStatus: "disconnected", disconnectedAt: ago(3000), details: { endReason: "revoked" } }), now).reason, "revoked, 3 s ago");
});
