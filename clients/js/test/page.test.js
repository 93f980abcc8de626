/** @import { Row } from "../src/index.js" */
import assert from "node:assert/strict";
import { test } from "node:test";
import { OutOfStepError, Page } from "../src/index.js";
import { model } from "./model.js";
import { random, seed } from "./random.js";

test(`after every flush the page is the sorted set (seed ${seed})`, () => {
  const r = random(seed);
  for (let run = 0; run < 300; run++) {
    const pageSize = 1 + r.below(6);
    const server = model(r, pageSize);
    const page = new Page();
    let number = 1 + r.below(3);
    server.churn();
    page.apply(server.init(number));
    for (let step = 0; step < 30; step++) {
      const before = server.show(number);
      server.churn();
      if (r.below(8) === 0) page.apply(server.init(number = 1 + r.below(3)));
      else {
        for (const message of server.flush(before, number)) {
          page.apply(message);
          assert.ok(page.view().items.length <= pageSize, `longer than a page after ${message.type}`);
        }
      }
      const view = page.view();
      assert.deepEqual(view.items, server.show(number));
      assert.equal(view.total, server.total());
      assert.equal(view.page, number);
    }
  }
});

/** @type {Row} */
const a = { serverId: "srv:a", ipAddress: "203.0.113.1", createdAt: 2, clientId: "c", login: null, license: null };
/** @type {Row} */
const b = { serverId: "srv:b", ipAddress: "203.0.113.1", createdAt: 1, clientId: "c", login: "l", license: "x" };
const init = { type: "init", success: true, total: 3, filteredTotal: 2, authorizedSessionCount: 1, lastConnectionTime: 7, items: [a], page: 1, pageSize: 2 };

for (const [name, messages, fits] of /** @type {[string, Record<string, any>[], boolean][]} */ ([
  ["init", [init], true],
  ["init twice", [init, init], true],
  ["added", [init, { type: "added", row: b }], true],
  ["updated", [init, { type: "updated", row: { ...a, login: "x" } }], true],
  ["removed", [init, { type: "removed", serverId: "srv:a" }], true],
  ["unknown type", [init, { type: "later", row: 1 }], true],
  ["unknown type before init", [{ type: "later" }], true],
  ["no type", [{}], true],
  ["error", [{ type: "error", success: false, code: "x", message: "y" }], true],
  ["added before init", [{ type: "added", row: b }], false],
  ["updated before init", [{ type: "updated", row: b }], false],
  ["removed before init", [{ type: "removed", serverId: "srv:a" }], false],
  ["totals before init", [{ type: "totals", total: 1, filteredTotal: 1, authorizedSessionCount: 1 }], false],
  ["time before init", [{ type: "last_connection_time", value: 1 }], false],
  ["added again", [init, { type: "added", row: a }], false],
  ["added to a full page", [init, { type: "added", row: b }, { type: "added", row: { ...b, serverId: "srv:c" } }], false],
  ["added without row", [init, { type: "added" }], false],
  ["added with a row of nothing", [init, { type: "added", row: {} }], false],
  ["added with null", [init, { type: "added", row: null }], false],
  ["updated, not there", [init, { type: "updated", row: b }], false],
  ["updated to another place", [init, { type: "updated", row: { ...a, createdAt: 9 } }], false],
  ["updated without row", [init, { type: "updated" }], false],
  ["removed, not there", [init, { type: "removed", serverId: "srv:b" }], false],
  ["removed without id", [init, { type: "removed" }], false],
  ["time without value", [init, { type: "last_connection_time" }], false],
  ["time that is a string", [init, { type: "last_connection_time", value: "1" }], false],
  ["totals without counts", [init, { type: "totals" }], false],
  ["init out of order", [{ ...init, items: [b, a] }], false],
  ["init with a row twice", [{ ...init, items: [a, a] }], false],
  ["init longer than its page", [{ ...init, items: [a, b, { ...b, serverId: "srv:0" }] }], false],
  ["init with wrong types", [{ ...init, total: "3" }], false],
  ["init without items", [{ ...init, items: undefined }], false],
  ["init with an item that is none", [{ ...init, items: [null] }], false],
])) {
  test(`messages: ${name}`, () => {
    const page = new Page();
    for (const message of messages.slice(0, -1)) page.apply(structuredClone(message));
    const last = () => page.apply(structuredClone(messages.at(-1) ?? {}));
    if (fits) last();
    else assert.throws(last, OutOfStepError);
  });
}

test("rows that stay the same stay the same objects, and a view does not change afterwards", () => {
  const page = new Page();
  page.apply(structuredClone({ ...init, items: [a, b] }));
  const before = page.view();
  page.apply(structuredClone({ ...init, items: [a, b] }));
  assert.equal(page.view().items[0], before.items[0]);
  page.apply({ type: "updated", row: { ...a } });
  assert.equal(page.view().items[0], before.items[0], "an update that changes nothing");
  page.apply({ type: "updated", row: { ...a, login: "new" } });
  page.apply({ type: "removed", serverId: "srv:b" });
  assert.deepEqual(before.items, [a, b]);
  assert.deepEqual(page.view().items, [{ ...a, login: "new" }]);
});

test("totals say when nodes are missing", () => {
  const page = new Page();
  page.apply(structuredClone(init));
  assert.equal(page.view().partial, "");
  const totals = { type: "totals", total: 5, filteredTotal: 4, authorizedSessionCount: 3 };
  page.apply({ ...totals, partial: "nodes" });
  assert.deepEqual([page.view().total, page.view().partial], [5, "nodes"]);
  page.apply(totals);
  assert.equal(page.view().partial, "");
});
