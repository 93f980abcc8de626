/** @import { Disconnect, LiveQuery, Watch } from "../../src/index.js" */
import { Manage, NetworkError, Session } from "../../src/index.js";

// The test in Go calls what is exported here as window.tests, and knows the paths that are not the API's.
const token = async () => (await fetch("/token", { method: "POST" })).text();
const sleep = (/** @type {number} */ ms) => new Promise(resolve => setTimeout(resolve, ms));

/** @param {unknown} condition @param {string} message */
function assert(condition, message) {
  if (!condition) throw new Error(message);
}

/** @param {string} what @param {() => unknown} condition */
async function eventually(what, condition) {
  for (const deadline = Date.now() + 15_000; !await condition(); await sleep(10)) assert(Date.now() < deadline, `still not so: ${what}`);
}

/** @param {Manage} manage @param {Watch} watch */
async function settled(manage, watch) {
  /** @type {object} */
  let list = {}, view = {};
  const difference = () => `${JSON.stringify(view)} is not ${JSON.stringify(list)}`;
  await eventually("the watch shows what the list answers", async () => {
    if (!watch.view || watch.moving || watch.stale) return false;
    const { success, message, applicationId, ...got } = await manage.live(watch.view.query);
    const { query, ...shown } = watch.view;
    [list, view] = [got, shown];
    const sorted = (/** @type {object} */ o) => JSON.stringify(Object.entries(o).sort());
    return sorted(list) === sorted(view);
  }).catch(error => { throw new Error(`${error.message}: ${difference()}`); });
}

/** @type {Session} */
let session;
/** @type {{type: string, value: any}[]} */
const events = [];

const tests = {
  /** Opens a session that stays; its events are kept. */
  async hold() {
    session = new Session({
      token: async ({ reason }) => {
        events.push({ type: "token", value: reason });
        return token();
      },
      clientId: "browser-1", minBackoffMs: 20, maxBackoffMs: 200,
    });
    for (const type of /** @type {const} */ (["welcome", "disconnect", "error", "state", "end"])) session.on(type, value => events.push({ type, value }));
    session.start();
    return (await session.ready).sessionId;
  },

  /** After an operator ended it with that code: it was told, asked for another token, and is back. @param {number} code */
  async back(code) {
    await eventually("the session is back", () => events.at(-1)?.type === "welcome" && events.some(e => e.type === "disconnect"));
    const told = events.splice(0);
    /** @type {Disconnect} */
    const disconnect = told.find(e => e.type === "disconnect")?.value;
    assert(disconnect.code === code && disconnect.reauthenticate, JSON.stringify(told));
    assert(told.filter(e => e.type === "token").map(e => e.value).join() === "connect,reauthenticate", JSON.stringify(told));
    events.push({ type: "token", value: "connect" }); // of the session to come
    return session.info?.sessionId;
  },

  async bye() {
    await session.bye();
    assert(session.state === "closed" && await session.closed === null, "closed");
  },

  /** Sessions come and go; every watch shows the list after it. @param {string} url @param {string} application */
  async churn(url, application) {
    const manage = new Manage({ url });
    const queries = /** @type {Partial<LiveQuery>[]} */ ([{}, { pageSize: 3, page: 2 }, { search: "tab-1", categories: ["clientId"] }]);
    const watches = queries.map(query => manage.watch({ application, ...query }));
    await Promise.all(watches.map(w => w.ready));
    /** @type {Session[]} */
    const open = [];
    for (let i = 0; i < 40; i++) {
      const options = i % 2 ? { token: await token() } : { publishableKey: "rca_0123456789abcdef" };
      open.push(new Session({ ...options, clientId: `tab-${i}`, name: "<img src=x onerror=alert(1)>" }).start());
      if (open.length > 12) open.splice(Math.floor(Math.random() * open.length), 1)[0]?.bye();
      if (i % 10 === 9) watches[1]?.query({ page: 1 + i % 3 });
      await sleep(10);
    }
    await Promise.all(open.map(s => s.ready));
    for (const w of watches) await settled(manage, w);
    for (const s of open.splice(0, 5)) await s.bye();
    for (const w of watches) await settled(manage, w);
    await Promise.all(open.map(s => s.bye()));
    for (const w of watches) await settled(manage, w);
    for (const w of watches) w.close();
  },

  /** @type {{manage: Manage, watch: Watch, stale: boolean} | null} */
  watching: null,

  /** Watches on; `caught` tells how that went. @param {string} url @param {string} application */
  async watch(url, application) {
    const manage = new Manage({ url });
    const watch = manage.watch({ application, pageSize: 50 });
    await watch.ready;
    const watching = { manage, watch, stale: false };
    tests.watching = watching;
    watch.on("state", ({ stale }) => { if (stale) watching.stale = true; });
  },

  /** After the connection was lost: the view was stale, and is exact again. */
  async caught() {
    if (!tests.watching) throw new Error("no watch");
    const { manage, watch } = tests.watching;
    await eventually("it noticed", () => tests.watching?.stale);
    await settled(manage, watch);
    tests.watching.stale = false;
  },

  /** A watch that the server refuses has the server's words, though browsers do not show them. @param {string} application */
  async refused(application) {
    const error = await new Manage({ url: location.origin }).watch({ application }).ready.catch(e => e);
    return `${error.status} ${error.code}`;
  },

  /** A watch with a key ends with an error that says what to do. @param {string} key @param {string} application */
  async key(key, application) {
    const manage = new Manage({ key });
    assert((await manage.live({ application })).success, "calls work");
    const error = await manage.watch({ application }).ready.catch(e => e);
    return error.message;
  },

  /** Nobody listens there. */
  async away() {
    const watch = new Manage({ url: "http://127.0.0.1:9" }).watch({ application: "1" });
    const { state, error, retryInMs = -1 } = await new Promise(resolve => watch.on("state", s => { if (s.state === "waiting") resolve(s); }));
    watch.close();
    assert(state === "waiting" && error instanceof NetworkError && retryInMs >= 0, String(error));
  },
};

Object.assign(window, { tests });
