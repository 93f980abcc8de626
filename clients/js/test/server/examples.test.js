import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually, hold, manage, server, token } from "./setup.js";

const directory = new URL("../../examples/", import.meta.url);
const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8").replaceAll(/^ +/gm, "");

for (const name of readdirSync(directory)) {
  test(`the README shows ${name}`, () => {
    const text = readFileSync(new URL(name, directory), "utf8").replaceAll(/^ +/gm, "");
    assert.ok(readme.includes(text), "as it is");
  });
}

/**
 * Runs an example until the test ends.
 *
 * @param {import("node:test").TestContext} t
 * @param {string} name
 * @param {Record<string, string>} [env]
 */
function run(t, name, env) {
  const child = spawn(process.execPath, [new URL(name, directory).pathname], {
    env: { ...process.env, ROLLCALL_URL: server.url, ROLLCALL_KEY: server.key, ROLLCALL_APPLICATION: server.application, ...env },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", data => { output += data; });
  const exit = new Promise(resolve => child.on("exit", resolve));
  t.after(async () => {
    child.kill("SIGKILL");
    await exit;
  });
  return {
    output: () => output,
    says: (/** @type {RegExp} */ text) => eventually(`${text} in ${output}`, () => text.test(output)),
    exit, stop: () => child.kill("SIGTERM"),
  };
}

test("a backend that issues tokens, and a program that holds a session", async t => {
  const port = String(20_000 + process.pid % 20_000);
  run(t, "backend.js", { PORT: port });
  const url = `http://127.0.0.1:${port}`;
  await eventually("the backend listens", () => fetch(url).then(r => r.ok, () => false));
  const program = run(t, "session.js", { TOKEN_URL: url });
  await program.says(/^a token, to connect\nopen: /);
  const [row] = (await manage.live({ application: server.number, search: "abcdef-123456" })).items;
  assert.deepEqual([row?.login, row?.clientId], ["john@example.com", "client-001"]);
  await manage.disconnect(server.application, String(row?.serverId.split(":")[1]), { reason: "you know why" });
  await program.says(/ended by the server: 4100 you know why\nagain in [\d.]+ ms\na token, to reauthenticate\nopen: /);
  program.stop();
  assert.equal(await program.exit, 0);
  assert.match(program.output(), /over: goodbye\n$/);
});

test("a watch", async t => {
  const watch = run(t, "watch.js");
  await watch.says(/^0 of 0 sessions match\n/);
  await hold(t, { token: await token({ license: "xABCx", sub: "jo" }) }).start().ready;
  await watch.says(/1 of 1 sessions match\nsrv-01:\S+ 127.0.0.1 jo xABCx\n$/);
  watch.stop();
  assert.equal(await watch.exit, 0);
});

test("finding sessions and ending them", async t => {
  const session = hold(t, { publishableKey: server.publishableKey, name: "Jo's", minBackoffMs: 60_000, maxBackoffMs: 60_000 }).start();
  await session.ready;
  const program = run(t, "manage.js");
  assert.equal(await program.exit, 0, program.output());
  assert.match(program.output(), /^Jo's active live\n(.*\n)*ended 1\n404 session_not_found\n$/);
  // A token that Rollcall did not issue counts as one from before the revocation until that second is over, and other tests have such.
  await sleep(1100);
});
