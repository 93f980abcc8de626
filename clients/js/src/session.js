/**
 * @import { Disconnect, TokenNotice, Welcome } from "./types.js"
 * @import { Ending, Socket, WebSocketClass } from "./socket.js"
 */
import { Backoff, Pause } from "./backoff.js";
import { adviceOf } from "./closing.js";
import { Emitter } from "./emitter.js";
import { EndedError, NetworkError, parseObject, StatusError } from "./errors.js";
import { baseURL, routeURL, webSocketURL } from "./http.js";
import { openSocket } from "./socket.js";

/** From the first packet to welcome. */
const CONNECT_TIMEOUT = 30_000;
/** What the server has to answer a ping, and so what its own may be late. */
const PONG_TIMEOUT = 10_000;
/** For the close frame that follows bye or disconnect. */
const CLOSE_TIMEOUT = 2_000;
/** A session that lasted so long starts the backoff anew. */
const STABLE = 10_000;
const ACTIVITY_EVERY = 15_000;
/** Tokens that a connection remembers to have presented; older ones have expired. */
const MAX_PRESENTED = 32;

/** Codes of the error frames that answer authorize. */
const ABOUT_TOKEN = new Set(["token_invalid", "token_expired", "token_revoked", "token_mismatch", "sessions_quota_exceeded",
  "application_unknown", "application_paused", "application_archived", "rate_limited", "unavailable"]);

/**
 * @typedef {object} TokenRequest
 * @property {"connect" | "renew" | "reauthenticate"} reason connect: any good token will do. renew: one that expires later.
 *   reauthenticate: another than before, since the server takes that one no more
 * @property {Disconnect} [disconnect] why, with reauthenticate
 * @property {AbortSignal} signal aborted when the token is no longer needed
 *
 * @typedef {(request: TokenRequest) => Promise<string | null> | string | null} TokenCallback null: there is none and there will be none,
 *   the session ends
 *
 * @typedef {object} SessionOptions
 * @property {string | URL} [url] of the server, such as https://rollcall.example.com; default: the page's origin
 * @property {string | TokenCallback} [token] a session token, or what gets one
 * @property {string} [publishableKey] opens an unauthorized session; used when there is no `token`
 * @property {string} [application] id or number; default: the credential names it
 * @property {string} [clientId] 4 to 64 printable characters
 * @property {string} [name]
 * @property {string} [hostname]
 * @property {string} [userAgent]
 * @property {Record<string, unknown>} [clientInfo]
 * @property {WebSocketClass} [WebSocket]
 * @property {number} [minBackoffMs] bound of the first wait; default 1,000
 * @property {number} [maxBackoffMs] bound of every wait; default 30,000
 *
 * @typedef {"idle" | "authenticating" | "connecting" | "open" | "waiting" | "closed"} SessionState
 *
 * @typedef {object} SessionEvents
 * @property {Welcome} welcome the session is open; after every reconnect another one
 * @property {TokenNotice} expiring the token is about to expire; `token` is asked for another
 * @property {TokenNotice} authorized the server took a token
 * @property {Disconnect} disconnect the server ends the session
 * @property {Error} error the server refused a frame (StatusError), or `token` failed; the session goes on
 * @property {{state: SessionState, retryInMs?: number, error?: Error}} state
 * @property {Error | null} end the session is over for good: null after bye
 */

/**
 * Holds one session, over as many connections as that takes.
 *
 * @extends {Emitter<SessionEvents>}
 */
export class Session extends Emitter {
  #url;
  #token;
  #publishableKey;
  #WebSocket;
  #min;
  #max;
  /** What the next connection presents; update changes it, so that what is shown survives a reconnect. @type {Record<string, unknown>} */
  #hello;
  /** @type {SessionState} */
  #state = "idle";
  /** The connection that has been welcomed. @type {Connection | null} */
  #connection = null;
  #pause = new Pause();
  #life = new AbortController();
  #activeAt = -Infinity;

  /** @param {SessionOptions} options */
  constructor({ url, token, publishableKey, WebSocket, minBackoffMs = 1000, maxBackoffMs = 30_000, ...shown }) {
    super();
    this.#url = webSocketURL(routeURL(baseURL(url), "connect"));
    if (!token && !publishableKey) throw new TypeError("a session needs a token or a publishableKey");
    this.#token = token;
    this.#publishableKey = publishableKey;
    this.#WebSocket = WebSocket;
    this.#min = minBackoffMs;
    this.#max = maxBackoffMs;
    const { application, clientId, name, hostname, userAgent, clientInfo } = shown;
    this.#hello = { application, clientId, name, hostname, userAgent, clientInfo };
    /** Null after bye, else why the session is over. It never rejects. @type {Promise<Error | null>} */
    this.closed = this.once("end");
    /** The first welcome; rejects when there will be none. @type {Promise<Welcome>} */
    this.ready = new Promise((resolve, reject) => {
      this.once("welcome").then(resolve);
      this.closed.then(error => reject(error ?? new Error("the session was ended by bye")));
    });
    this.ready.catch(() => {});
  }

  get state() {
    return this.#state;
  }

  /** The welcome of the open session; null while there is none. */
  get info() {
    return this.#connection?.welcome ?? null;
  }

  /** Connects, and stays connected until bye or until the server says not to come back. */
  start() {
    if (this.#state !== "idle") throw new Error("the session was started before");
    this.#enter("connecting");
    this.#run();
    return this;
  }

  /** Says that the person or agent did something. Call it at every keystroke: it sends at most one frame in 15 s. */
  activity() {
    const now = performance.now();
    if (!this.#connection || now - this.#activeAt < ACTIVITY_EVERY) return;
    this.#activeAt = now;
    this.#connection.send({ type: "activity" });
  }

  /**
   * Changes what is shown of the session, now and on every later connection; an empty name or hostname removes it. What the server
   * does not take comes as an `error`.
   *
   * @param {{name?: string, hostname?: string, clientInfo?: Record<string, unknown>}} change
   */
  update({ name, hostname, clientInfo }) {
    const change = JSON.parse(JSON.stringify({ name, hostname, clientInfo })); // without what is undefined
    Object.assign(this.#hello, change);
    this.#connection?.send({ type: "update", ...change });
  }

  /**
   * Presents a token on the open connection: it authorizes an unauthorized session, or renews one. The answer is `authorized` or `error`.
   * The next connection presents what the options say.
   *
   * @param {string} token
   */
  authorize(token) {
    if (!this.#connection) throw new NetworkError("the session is not connected");
    this.#connection.authorize(token);
  }

  /** Ends a wait for the next attempt. */
  retry() {
    this.#pause.wake();
  }

  /** Ends the session, and resolves when it has ended. */
  async bye() {
    if (this.#state === "idle") {
      this.#enter("closed");
      this.emit("end", null);
    }
    this.#life.abort();
    await this.closed;
  }

  async #run() {
    const backoff = new Backoff(this.#min, this.#max);
    const { signal } = this.#life;
    /** How the last session ended, and the tokens that it presented. @type {{error: Error, refused: string[]}} */
    let last = { error: new NetworkError("not connected yet"), refused: [] };
    /** @type {Error | null} */
    let failure = null;
    while (!signal.aborted) {
      const end = await this.#attempt(last, signal);
      if (signal.aborted) break;
      if (end.final) {
        failure = end.error;
        break;
      }
      if (end.refused || end.lasted > 0) last = { error: end.error, refused: end.refused ?? [] };
      if (end.lasted >= STABLE) backoff.reset();
      const retryInMs = backoff.next(end.retryAfterMs);
      this.#enter("waiting", { retryInMs, error: end.error });
      await this.#pause.wait(retryInMs, signal);
    }
    this.#enter("closed", failure ? { error: failure } : {});
    this.emit("end", failure);
  }

  /**
   * Gets a token, connects, and stays until the connection has ended. Never rejects.
   *
   * @param {{error: Error, refused: string[]}} last
   * @param {AbortSignal} signal
   * @returns {Promise<AttemptEnd>}
   */
  async #attempt(last, signal) {
    const hello = { ...this.#hello };
    const ended = last.error instanceof EndedError && last.error.disconnect.reauthenticate ? last.error : null;
    if (this.#token) {
      /** @type {string | null} */
      let token;
      this.#enter("authenticating");
      try {
        token = await this.#ask(ended ? { reason: "reauthenticate", disconnect: ended.disconnect, signal } : { reason: "connect", signal });
      } catch (thrown) {
        const error = asError(thrown);
        if (!signal.aborted) this.emit("error", error);
        return { ...nothing, error };
      }
      if (!token) return { ...nothing, final: true, error: ended ? again(ended, { declined: true }) : new Error("there is no session token") };
      if (ended && last.refused.includes(token)) return { ...nothing, final: true, error: again(ended, { sameToken: true }) };
      hello.token = token;
    } else {
      hello.publishableKey = this.#publishableKey;
    }
    this.#enter("connecting");
    const connection = new Connection(this.#url, hello, this.#WebSocket, {
      welcome: w => {
        this.#connection = connection;
        this.#enter("open");
        this.emit("welcome", w);
      },
      authorized: n => this.emit("authorized", n),
      expiring: n => this.emit("expiring", n),
      disconnect: d => this.emit("disconnect", d),
      error: e => this.emit("error", e),
      renew: typeof this.#token === "function" ? s => this.#ask({ reason: "renew", signal: s }) : null,
    }, new Backoff(this.#min, this.#max));
    const leave = () => connection.bye();
    signal.addEventListener("abort", leave);
    const end = await connection.run();
    signal.removeEventListener("abort", leave);
    this.#connection = null;
    // A publishable key is for ever: refused once, it stays refused.
    if (!this.#token && end.error instanceof EndedError && end.error.code === 4203) end.final = true;
    return end;
  }

  /**
   * Asks for a token; rejects when the callback does, or when the signal says that there is no need any more.
   *
   * @param {TokenRequest} request
   * @returns {Promise<string | null>}
   */
  async #ask(request) {
    const { signal } = request;
    if (typeof this.#token !== "function") return this.#token ?? null;
    const aborted = new Promise((_, reject) => { signal.addEventListener("abort", () => reject(signal.reason), { once: true }); });
    aborted.catch(() => {});
    return /** @type {Promise<string | null>} */ (Promise.race([this.#token(request), aborted]));
  }

  /**
   * @param {SessionState} state
   * @param {{retryInMs?: number, error?: Error}} [more]
   */
  #enter(state, more = {}) {
    this.#state = state;
    this.emit("state", { state, ...more });
  }
}

/**
 * How an attempt ended. `refused` are tokens that the server will not take again.
 *
 * @typedef {{error: Error, final: boolean, lasted: number, retryAfterMs: number, refused: string[] | null}} AttemptEnd
 */
const nothing = { final: false, lasted: 0, retryAfterMs: 0, refused: null };

/**
 * @param {EndedError} ended
 * @param {{sameToken?: boolean, declined?: boolean}} why
 */
function again(ended, why) {
  const { cause } = ended;
  return new EndedError(ended.disconnect, { ...(cause instanceof StatusError && { cause }), ...why });
}

/** @param {unknown} thrown @returns {Error} */
function asError(thrown) {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/**
 * @typedef {object} ConnectionEvents
 * @property {(w: Welcome) => void} welcome
 * @property {(n: TokenNotice) => void} authorized
 * @property {(n: TokenNotice) => void} expiring
 * @property {(d: Disconnect) => void} disconnect
 * @property {(e: Error) => void} error
 * @property {((signal: AbortSignal) => Promise<string | null>) | null} renew
 */

/** One connection of a session. */
class Connection {
  #on;
  /** @type {string[]} */
  #presented;
  #renewTries;
  /** An authorize of ours is not answered yet. */
  #renewing = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #renewTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} of what ends the connection for want of a sign of life */
  #timer;
  #silence = CONNECT_TIMEOUT;
  #life = new AbortController();
  #open;
  /** @type {Socket | null} */
  #socket = null;
  /** @type {Welcome | null} */
  welcome = null;
  #welcomedAt = 0;
  /** The last error frame before welcome: it explains the disconnect that follows. @type {StatusError | undefined} */
  #refusal;
  /** The server's last word. @type {Disconnect | null} */
  #disconnect = null;
  #leaving = false;
  /** @type {Error | undefined} */
  #fault;
  /** @type {(end: AttemptEnd) => void} */
  #resolve = () => {};

  /**
   * @param {URL} url
   * @param {Record<string, unknown>} hello
   * @param {WebSocketClass | undefined} WebSocket
   * @param {ConnectionEvents} on
   * @param {Backoff} renewTries
   */
  constructor(url, hello, WebSocket, on, renewTries) {
    this.#on = on;
    this.#renewTries = renewTries;
    this.#presented = typeof hello.token === "string" ? [hello.token] : [];
    this.#open = () => openSocket({ url, protocols: ["rollcall.session.v1"], ...(WebSocket && { WebSocket }) }, {
      open: () => this.send({ type: "hello", ...hello }),
      message: text => this.#message(text),
      ping: () => this.#heard(),
      close: end => this.#closed(end),
    });
  }

  /**
   * Resolves when the connection has ended.
   *
   * @returns {Promise<AttemptEnd>}
   */
  run() {
    return new Promise(resolve => {
      this.#resolve = resolve;
      this.#heard();
      try {
        this.#socket = this.#open();
      } catch (thrown) {
        clearTimeout(this.#timer);
        resolve({ ...nothing, error: asError(thrown), final: true });
      }
    });
  }

  /** @param {Record<string, unknown>} frame */
  send(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  /** @param {string} token */
  authorize(token) {
    this.#presented.push(token);
    this.#presented.splice(0, this.#presented.length - MAX_PRESENTED);
    this.send({ type: "authorize", token });
  }

  /** Says goodbye, and waits a little for the server's close frame, so that the record says client_closed. */
  bye() {
    this.#leaving = true;
    if (!this.welcome) return this.#socket?.drop();
    this.send({ type: "bye" });
    this.#within(CLOSE_TIMEOUT, "the server did not answer bye");
  }

  /** @param {number} ms @param {string} message */
  #within(ms, message) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#fault = new NetworkError(message);
      this.#socket?.drop();
    }, ms);
  }

  /** The server has shown a sign of life. */
  #heard() {
    if (this.#leaving || this.#disconnect) return;
    if (this.welcome && !this.#socket?.seesPings) clearTimeout(this.#timer);
    else if (!this.welcome && this.#timer) return; // the time until welcome is for all of it
    else this.#within(this.#silence, this.welcome ? "the server fell silent" : "the server did not answer");
  }

  /** @param {string} text */
  #message(text) {
    if (this.#leaving || this.#fault) return;
    const frame = parseObject(text);
    if (!frame) {
      this.#fault = new NetworkError("the server sent a frame that is not a JSON object");
      return this.#socket?.drop();
    }
    this.#heard();
    switch (frame.type) {
      case "welcome": return this.#welcomed(/** @type {any} */ (withoutType(frame)));
      case "authorized":
        this.#renewing = false;
        clearTimeout(this.#renewTimer);
        this.#renewTries.reset();
        return this.#on.authorized(/** @type {any} */ (withoutType(frame)));
      case "token_expiring":
        this.#on.expiring(/** @type {any} */ (withoutType(frame)));
        return void this.#renew();
      case "error": return this.#refused(new StatusError(0, String(frame.code), String(frame.message)));
      case "disconnect":
        this.#disconnect = /** @type {any} */ (withoutType(frame));
        this.#within(CLOSE_TIMEOUT, "the server did not close the connection");
        return this.#on.disconnect(/** @type {Disconnect} */ (this.#disconnect));
    }
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    this.welcome = welcome;
    this.#welcomedAt = performance.now();
    this.#silence = 2 * (welcome.pingIntervalMs || CONNECT_TIMEOUT) + PONG_TIMEOUT; // a server that pauses for one interval is not dead
    this.#heard();
    this.#on.welcome(welcome);
  }

  /** @param {StatusError} error */
  #refused(error) {
    this.#refusal = this.welcome ? undefined : error;
    this.#on.error(error);
    if (this.#renewing && ABOUT_TOKEN.has(error.code)) {
      this.#renewing = false;
      this.#renewLater();
    }
  }

  /** Asks for a token and presents it; trouble is tried again until the session's token has run out, which the server decides. */
  async #renew() {
    if (!this.#on.renew) return;
    clearTimeout(this.#renewTimer);
    const { signal } = this.#life;
    /** @type {string | null} */
    let token = null;
    try {
      token = await this.#on.renew(signal);
    } catch (thrown) {
      if (!signal.aborted) this.#on.error(asError(thrown));
    }
    if (signal.aborted) return;
    if (!token || this.#presented.includes(token)) return this.#renewLater();
    this.#renewing = true;
    this.authorize(token);
  }

  #renewLater() {
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#renew(), this.#renewTries.next(this.#renewTries.min));
  }

  /** @param {Ending} end */
  #closed(end) {
    clearTimeout(this.#timer);
    clearTimeout(this.#renewTimer);
    this.#life.abort();
    if (!this.#disconnect && !this.#leaving && (this.#disconnect = adviceOf(end.code, end.reason))) this.#on.disconnect(this.#disconnect);
    const lasted = this.welcome ? performance.now() - this.#welcomedAt : 0;
    const { refusal } = end;
    const d = this.#disconnect;
    if (!d) {
      const error = this.#fault ?? refusal ?? end.error ?? new NetworkError(`the connection was lost (${end.code})`);
      return this.#resolve({ error, final: refusal?.final ?? false, lasted, retryAfterMs: refusal?.retryAfterMs ?? 0, refused: null });
    }
    this.#resolve({
      error: new EndedError(d, this.#refusal && { cause: this.#refusal }),
      final: !d.reconnect, lasted, retryAfterMs: Number(d.retryAfterMs) || 0, refused: d.reauthenticate ? this.#presented : null,
    });
  }
}

/** @param {Record<string, any>} frame */
function withoutType({ type: _, ...rest }) {
  return rest;
}
