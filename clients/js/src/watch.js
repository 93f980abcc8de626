/**
 * @import { Counts, LivePage, LiveQuery, Row } from "./types.js"
 * @import { Ending, Socket, WebSocketClass } from "./socket.js"
 */
import { Backoff, Pause } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { NetworkError, OutOfStepError, parseObject, StatusError } from "./errors.js";
import { webSocketURL } from "./http.js";
import { Page } from "./page.js";
import { openSocket } from "./socket.js";

/** What a stream may take to be opened and to send its first page. */
const OPEN_TIMEOUT = 30_000;
/** A flush is one write of the server, but arrives as several messages: this long after the last it counts as whole. */
const SETTLE = 4;
const SETTLE_AT_MOST = 50;
/** The server pings every 30 s. */
const SILENCE = 90_000;
/** Where pings cannot be seen, the page is asked for again after so much quiet, and the answer must not take longer than that. */
const QUIET = 60_000;
const ANSWER = 15_000;
/** A connection that lasted so long starts the backoff anew. */
const STABLE = 10_000;

/**
 * @typedef {LivePage & Counts & {partial: string, query: LiveQuery}} View a page of live sessions; frozen. `query` is what it answers,
 *   `partial` is "nodes" while rows of other nodes are missing
 *
 * @typedef {object} Change
 * @property {View} view
 * @property {Row[]} added
 * @property {Row[]} updated as they are now
 * @property {Row[]} removed as they were
 * @property {boolean} reset the server sent the page anew: after a reconnect, or for another query
 *
 * @typedef {"connecting" | "open" | "waiting" | "closed"} WatchState
 *
 * @typedef {object} WatchEvents
 * @property {Change} change
 * @property {{state: WatchState, stale: boolean, retryInMs?: number, error?: Error}} state
 * @property {StatusError} refused a disconnect or a query that the server could not obey; the stream goes on
 * @property {Error | null} end the watch is closed for good: null after close
 */

/**
 * A live query as an array that is always correct: `view.items` is what the HTTP list answers, kept so by the server's changes, over
 * as many connections as that takes. While there is none, the view is what was true last, and `stale` is true.
 *
 * @extends {Emitter<WatchEvents>}
 */
export class Watch extends Emitter {
  #options;
  /** What the connection is asked for next; differs from #query while the server has not answered. @type {LiveQuery} */
  #wanted;
  /** What the page belongs to. @type {LiveQuery} */
  #query;
  /** The query message that the server has not answered yet; there is one at a time. @type {LiveQuery | null} */
  #asked = null;
  #page = new Page();
  /** An init has come since the view was made. */
  #reset = false;
  /** @type {View | null} */
  #view = null;
  /** @type {WatchState} */
  #state = "connecting";
  /** @type {Socket | null} */
  #socket = null;
  #pause = new Pause();
  #life = new AbortController();
  /** Why the watch ended, once it has. @type {Error | null} */
  #failure = null;
  /** Publishes what came. @type {{timer: ReturnType<typeof setTimeout>, due: number} | null} */
  #settling = null;

  /**
   * Use `Manage.watch`.
   *
   * @param {object} options
   * @param {LiveQuery} options.query
   * @param {(query: LiveQuery) => URL} options.url
   * @param {(query: LiveQuery, signal: AbortSignal) => Promise<unknown>} options.probe asks the same by HTTP, to learn why a stream is refused
   * @param {string | undefined} options.authorization
   * @param {WebSocketClass | undefined} options.WebSocket
   */
  constructor(options) {
    super();
    this.#options = options;
    this.#wanted = this.#query = Object.freeze({ ...options.query });
    /** The first view; rejects when there will be none. @type {Promise<View>} */
    this.ready = new Promise((resolve, reject) => {
      this.once("change").then(({ view }) => resolve(view));
      this.once("end").then(error => reject(error ?? new Error("the watch was closed")));
    });
    this.ready.catch(() => {});
    this.#run();
  }

  /** What is known; null before the first page. It is replaced, never changed. */
  get view() {
    return this.#view;
  }

  get state() {
    return this.#state;
  }

  /** Whether the view may lag behind the truth: there is no connection, or it has not sent its page yet. */
  get stale() {
    return this.#state !== "open";
  }

  /** Whether the view still belongs to an earlier query. */
  get moving() {
    return this.#wanted !== this.#query;
  }

  /**
   * Moves to another page or search. What is left out stays as it is, but a new search starts at page 1. Of several in a row the last
   * counts; `view.query` tells which one the rows belong to.
   *
   * @param {Partial<Omit<LiveQuery, "application">>} query
   */
  query(query) {
    const before = this.#wanted;
    const next = { ...before };
    for (const key of /** @type {const} */ (["page", "pageSize", "search", "categories"])) {
      if (query[key] !== undefined) Object.assign(next, { [key]: query[key] });
    }
    const moved = (next.search ?? "") !== (before.search ?? "") || String(next.categories) !== String(before.categories);
    if (moved && query.page === undefined) next.page = 1;
    this.#wanted = Object.freeze(next);
    this.#ask();
  }

  /**
   * Ends a session of the page's application (sessions:disconnect). There is no acknowledgement: the row leaves, or `refused` says why
   * not. Throws when there is no connection.
   *
   * @param {string} serverId
   */
  disconnect(serverId) {
    if (this.#state !== "open") throw new NetworkError("the watch is not connected");
    this.#send({ type: "disconnect_session", serverId });
  }

  /** Ends a wait for the next attempt. */
  retry() {
    this.#pause.wake();
  }

  /** Ends the watch. */
  close() {
    this.#life.abort();
  }

  /**
   * The newest view, again and again, until the watch is closed; throws what ended it otherwise. Views that came while the caller was
   * busy are skipped.
   *
   * @returns {AsyncGenerator<View, void, void>}
   */
  async *[Symbol.asyncIterator]() {
    /** @type {View | null} */
    let seen = null;
    for (;;) {
      if (this.#view && this.#view !== seen) {
        yield seen = this.#view;
        continue;
      }
      if (this.#state === "closed") {
        if (this.#failure) throw this.#failure;
        return;
      }
      let off = () => {};
      await new Promise(resolve => {
        const offs = [this.on("change", resolve), this.on("end", resolve)];
        off = () => offs.forEach(f => f());
      });
      off();
    }
  }

  async #run() {
    const backoff = new Backoff(200, 15_000);
    const { signal } = this.#life;
    while (!signal.aborted) {
      this.#enter("connecting");
      const end = await this.#connection(signal);
      if (signal.aborted) break;
      const error = end.error ?? await this.#verdict(end, signal);
      if (signal.aborted) break;
      if (error instanceof StatusError && error.final) {
        if (error.status !== 400 || !this.#view || !this.moving) {
          this.#failure = error;
          break;
        }
        this.#refused(error); // the last query was good
      }
      if (end.lasted >= STABLE) backoff.reset();
      const retryInMs = backoff.next(error instanceof StatusError ? error.retryAfterMs : 0);
      this.#enter("waiting", { retryInMs, error });
      await this.#pause.wait(retryInMs, signal);
    }
    this.#enter("closed", this.#failure ? { error: this.#failure } : {});
    this.emit("end", this.#failure);
  }

  /**
   * One connection, from its start to its end. Never rejects.
   *
   * @param {AbortSignal} signal
   * @returns {Promise<Ending & {lasted: number, opened: boolean, said: StatusError | null}>}
   */
  #connection(signal) {
    return new Promise(resolve => {
      const query = this.#wanted;
      let begun = NaN, opened = false; // when the first page came
      /** @type {StatusError | null} */
      let said = null;
      /** @type {Error | undefined} */
      let fault;
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let timer;
      const drop = (/** @type {Error} */ error) => {
        fault = error;
        socket?.drop();
      };
      const within = (/** @type {number} */ ms, /** @type {() => void} */ then) => {
        clearTimeout(timer);
        timer = setTimeout(then, ms);
      };
      const silent = () => drop(new NetworkError("the server fell silent"));
      const heard = () => {
        if (Number.isNaN(begun)) return;
        if (socket?.seesPings) return within(SILENCE, silent);
        within(QUIET, () => {
          if (!this.#asked) this.#ask(true);
          within(ANSWER, silent);
        });
      };
      const ended = (/** @type {Ending} */ end) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", left);
        this.#socket = this.#asked = null;
        this.#discard();
        resolve({ ...end, ...(fault && { error: fault }), opened, said, lasted: Date.now() - begun || 0 });
      };
      const left = () => {
        socket?.close();
        ended({ code: 1000, reason: "" }); // nobody waits for the server's answer
      };
      /** @type {Socket | undefined} */
      let socket;
      try {
        socket = openSocket({
          url: webSocketURL(this.#options.url(query)), protocols: [],
          ...(this.#options.authorization && { authorization: this.#options.authorization }),
          ...(this.#options.WebSocket && { WebSocket: this.#options.WebSocket }),
        }, {
          open: () => { opened = true; },
          ping: heard,
          close: ended,
          message: text => {
            if (fault || signal.aborted) return;
            const message = parseObject(text);
            said = message?.type === "error" ? new StatusError(0, String(message.code), String(message.message)) : null;
            try {
              if (!message) throw new OutOfStepError("a message that is not a JSON object");
              if (said) this.#refused(said);
              else if (Number.isNaN(begun) && message.type === "init") {
                begun = Date.now();
                this.#begin(message, query);
              } else if (!Number.isNaN(begun)) this.#apply(message);
            } catch (error) {
              if (!(error instanceof OutOfStepError)) throw error;
              drop(error); // whatever went wrong on the way, a fresh page puts it right
            }
            heard();
          },
        });
        this.#socket = socket;
        signal.addEventListener("abort", left);
        within(OPEN_TIMEOUT, () => drop(new NetworkError("the server did not answer")));
      } catch (error) {
        // A WebSocket that cannot be made: another attempt would fail alike.
        fault = new StatusError(0, "websocket_unusable", error instanceof Error ? error.message : String(error));
        ended({ code: 1006, reason: "" });
      }
    });
  }

  /**
   * Why a connection ended. A final StatusError: there is no point in another.
   *
   * @param {Ending & {opened: boolean, said: StatusError | null}} end
   * @param {AbortSignal} signal
   * @returns {Promise<Error>}
   */
  async #verdict({ code, reason, refusal, opened, said }, signal) {
    if (refusal) return refusal;
    if (code === 1008) return said ?? new StatusError(0, "policy", `the server ended the stream: ${reason}`);
    if (opened) return new NetworkError(said ? said.message : `the connection was lost (${code})`);
    // Browsers do not tell why an upgrade failed. The same question over HTTP has the same answer.
    try {
      await this.#options.probe(this.#wanted, signal);
    } catch (error) {
      return /** @type {Error} */ (error);
    }
    return new NetworkError("the server answers, but opens no stream: a proxy in between may not forward WebSockets");
  }

  /**
   * The first page of a connection.
   *
   * @param {Record<string, any>} init
   * @param {LiveQuery} query that the connection asked for
   */
  #begin(init, query) {
    this.#page.apply(init);
    this.#query = query;
    this.#changed(true);
    this.#state = "open";
    this.#publish(); // an init is whole
    this.#enter("open");
    this.#ask();
  }

  /** @param {Record<string, any>} message */
  #apply(message) {
    const init = message.type === "init";
    this.#page.apply(message);
    if (init && this.#asked) {
      this.#query = this.#asked;
      this.#asked = null;
    }
    this.#changed(init);
    if (init) {
      this.#publish();
      this.#ask();
    }
  }

  /** @param {StatusError} error */
  #refused(error) {
    if (this.#asked && error.code === "validation_error" || error.status === 400) {
      const newer = this.#asked !== null && this.#wanted !== this.#asked;
      this.#asked = null;
      if (newer) this.#ask();
      else this.#wanted = this.#query;
    }
    this.emit("refused", error);
  }

  /** Asks for the query that is wanted, unless that is what is shown. @param {boolean} [anyway] */
  #ask(anyway = false) {
    if (this.#state !== "open" || this.#asked || (!anyway && !this.moving)) return;
    this.#asked = this.#wanted;
    const { page = 1, pageSize = 10, search = "", categories = ["license"] } = this.#wanted;
    this.#send({ type: "query", page, pageSize, searchString: search, categories });
  }

  /** @param {Record<string, unknown>} message */
  #send(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** @param {boolean} reset */
  #changed(reset) {
    this.#reset ||= reset;
    const now = Date.now();
    if (this.#settling) clearTimeout(this.#settling.timer);
    const due = this.#settling?.due ?? now + SETTLE_AT_MOST;
    this.#settling = { due, timer: setTimeout(() => this.#publish(), Math.max(0, Math.min(SETTLE, due - now))) };
  }

  /** Forgets what came and was not published: of a connection that has ended, it may be half a flush. */
  #discard() {
    clearTimeout(this.#settling?.timer);
    this.#settling = null;
  }

  /** Makes a view of the page, if something came, and tells what changed. */
  #publish() {
    if (!this.#settling) return;
    this.#discard();
    const before = new Map(this.#view?.items.map(row => [row.serverId, row]));
    const page = this.#page.view();
    const view = this.#view = Object.freeze({ ...page, items: /** @type {Row[]} */ (Object.freeze(page.items)), query: this.#query });
    /** @type {Change} */
    const change = { view, added: [], updated: [], removed: [], reset: this.#reset };
    this.#reset = false;
    for (const row of view.items) {
      const old = before.get(row.serverId);
      if (!old) change.added.push(row);
      else if (old !== row) change.updated.push(row);
      before.delete(row.serverId);
    }
    change.removed = [...before.values()];
    this.emit("change", change);
  }

  /**
   * @param {WatchState} state
   * @param {{retryInMs?: number, error?: Error}} [more]
   */
  #enter(state, more = {}) {
    this.#state = state;
    this.emit("state", { state, stale: this.stale, ...more });
  }
}
