/**
 * @import { AccountLimits, Application, ApplicationInput, AuditList, AuditQuery, AuditRecord, Category, LiveList, LiveQuery } from "./types.js"
 * @import { Series, SessionInfo, SessionList, SessionQuery, SignIn, TokenInput } from "./types.js"
 * @import { CallerOptions, Query } from "./http.js"
 * @import { WebSocketClass } from "./socket.js"
 */
import { StatusError } from "./errors.js";
import { Caller } from "./http.js";
import { Watch } from "./watch.js";

/** @typedef {{signal?: AbortSignal}} Signal */

/**
 * Calls the management API: with an API key in Node, with the cookie of a sign-in in a page of the server's own origin. Every method
 * rejects with a StatusError for what the server refused, and with a NetworkError when it did not answer.
 */
export class Manage {
  #caller;
  #WebSocket;

  /** @param {CallerOptions & {WebSocket?: WebSocketClass}} [options] */
  constructor({ WebSocket, ...options } = {}) {
    this.#caller = new Caller(options);
    this.#WebSocket = WebSocket;
  }

  /**
   * Exchanges an API key for a cookie, which the browser keeps and shows to nobody.
   *
   * @param {string} key
   * @param {Signal} [options]
   * @returns {Promise<SignIn>}
   */
  async signIn(key, options) {
    return (await this.#caller.call("POST", "sign-in", { ...options, body: { key } })).json;
  }

  /**
   * Who is signed in; null when nobody is.
   *
   * @param {Signal} [options]
   * @returns {Promise<SignIn | null>}
   */
  async signedIn(options) {
    try {
      return (await this.#caller.call("GET", "sign-in", { ...options })).json;
    } catch (error) {
      if (error instanceof StatusError && error.status === 401) return null;
      throw error;
    }
  }

  /** @param {Signal} [options] */
  async signOut(options) {
    await this.#caller.call("DELETE", "sign-in", { ...options });
  }

  /**
   * A page of live sessions (sessions:read).
   *
   * @param {LiveQuery & Signal} query
   * @returns {Promise<LiveList>}
   */
  async live({ signal, ...query }) {
    const { json, partial, applicationId } = await this.#caller.call("GET", LIVE, { query: liveQuery(query), signal });
    return { ...json, partial, applicationId };
  }

  /**
   * Watches a live query (sessions:read): a page of live sessions that stays correct until it is closed.
   *
   * @param {LiveQuery} query
   */
  watch(query) {
    return new Watch({
      query, WebSocket: this.#WebSocket, authorization: this.#caller.authorization,
      url: wanted => this.#caller.url(LIVE, { ...liveQuery(wanted), totals: true }),
      probe: (wanted, signal) => this.live({ ...wanted, page: 1, pageSize: 1, signal }),
    });
  }

  /**
   * One answer of the list of sessions, live and ended, newest first (sessions:read).
   *
   * @param {string} application id
   * @param {SessionQuery & Signal} [query]
   * @returns {Promise<SessionList>}
   */
  async sessions(application, { signal, ...query } = {}) {
    const { json, partial } = await this.#caller.call("GET", sessionsPath(application), { query, signal });
    return { ...json, partial };
  }

  /**
   * All sessions of the list, asking for more as it goes. A session that stays comes once, however others come and go meanwhile.
   *
   * @param {string} application id
   * @param {SessionQuery & Signal} [query]
   * @returns {AsyncGenerator<SessionInfo, void, void>}
   */
  allSessions(application, query = {}) {
    return all(query, next => this.sessions(application, next));
  }

  /**
   * One session, live or ended (sessions:read).
   *
   * @param {string} application id
   * @param {string} session id
   * @param {{details?: boolean} & Signal} [options]
   * @returns {Promise<SessionInfo>}
   */
  async session(application, session, { details, signal } = {}) {
    const path = `${sessionsPath(application)}/${uuid(session, "session")}`;
    return (await this.#caller.call("GET", path, { query: { details }, signal })).json.session;
  }

  /**
   * Ends one session and denies its tokens (sessions:disconnect). The reason is shown to the client and recorded.
   *
   * @param {string} application id
   * @param {string} session id
   * @param {{reason?: string} & Signal} [options]
   * @returns {Promise<number>} 1, or 0 when it had already ended
   */
  async disconnect(application, session, { reason, signal } = {}) {
    const path = `${sessionsPath(application)}/${uuid(session, "session")}`;
    return (await this.#caller.call("DELETE", path, { query: { reason }, signal })).json.disconnectedCount;
  }

  /**
   * Ends all sessions of an application, and refuses every token from before (sessions:disconnect).
   *
   * @param {string} application id
   * @param {{reason?: string} & Signal} [options]
   * @returns {Promise<number>} how many were ended
   */
  async revokeAll(application, { reason, signal } = {}) {
    return (await this.#caller.call("DELETE", sessionsPath(application), { query: { reason }, signal })).json.disconnectedCount;
  }

  /**
   * How many sessions `disconnectMatching` would end now; it takes the `createdBefore` that comes with it (sessions:disconnect).
   *
   * @param {string} application id
   * @param {{search: string, categories?: Category[]} & Signal} query
   * @returns {Promise<{count: number, createdBefore: string, partial: string}>}
   */
  async previewDisconnect(application, { search, categories, signal }) {
    const { json, partial } = await this.#caller.call("POST", `${sessionsPath(application)}:disconnect`, {
      query: { dryRun: true }, body: { searchString: search, categories }, signal,
    });
    return { count: json.count, createdBefore: json.createdBefore, partial };
  }

  /**
   * Ends the sessions that match now and matched at `createdBefore`; an empty search matches all (sessions:disconnect).
   *
   * @param {string} application id
   * @param {{search: string, categories?: Category[], createdBefore: string, reason?: string} & Signal} query
   * @returns {Promise<number>} how many were ended
   */
  async disconnectMatching(application, { search, categories, createdBefore, reason, signal }) {
    const { json } = await this.#caller.call("POST", `${sessionsPath(application)}:disconnect`, {
      body: { searchString: search, categories, createdBefore, reason }, signal,
    });
    return json.disconnectedCount;
  }

  /**
   * Live sessions, connects and ends of the last hour, minute by minute, oldest first (sessions:read).
   *
   * @param {string} application id
   * @param {Signal} [options]
   * @returns {Promise<Series>}
   */
  async series(application, options) {
    const { json, partial } = await this.#caller.call("GET", `applications/${uuid(application, "application")}/series`, { ...options });
    return { ...json, partial };
  }

  /**
   * One answer of the audit records, newest first (audit:read).
   *
   * @param {AuditQuery & Signal} [query]
   * @returns {Promise<AuditList>}
   */
  async audit({ signal, ...query } = {}) {
    const { json, partial } = await this.#caller.call("GET", "audit", { query, signal });
    return { ...json, partial };
  }

  /**
   * All audit records, asking for more as it goes.
   *
   * @param {AuditQuery & Signal} [query]
   * @returns {AsyncGenerator<AuditRecord, void, void>}
   */
  allAudit(query = {}) {
    return all(query, next => this.audit(next));
  }

  /**
   * A session token, signed by Rollcall (sessions:create).
   *
   * @param {string} application id
   * @param {TokenInput & Signal} input
   * @returns {Promise<{token: string, expiresAt: string}>}
   */
  async issueToken(application, { signal, ...body }) {
    return (await this.#caller.call("POST", `applications/${uuid(application, "application")}/session-tokens`, { body, signal })).json;
  }

  /**
   * The applications that the key may see (applications:read).
   *
   * @param {Signal} [options]
   * @returns {Promise<Application[]>}
   */
  async applications(options) {
    return (await this.#caller.call("GET", "applications", { ...options })).json.items;
  }

  /**
   * @param {string} id
   * @param {Signal} [options]
   * @returns {Promise<Application>}
   */
  async application(id, options) {
    return (await this.#caller.call("GET", `applications/${uuid(id, "application")}`, { ...options })).json;
  }

  /**
   * Creates an application (applications:write).
   *
   * @param {ApplicationInput & Signal} input
   * @returns {Promise<Application>}
   */
  async createApplication({ signal, ...body }) {
    return (await this.#caller.call("POST", "applications", { body, signal })).json;
  }

  /**
   * Changes an application (applications:write). State paused ends its sessions.
   *
   * @param {string} id
   * @param {ApplicationInput & Signal} input
   * @returns {Promise<Application>}
   */
  async patchApplication(id, { signal, ...body }) {
    return (await this.#caller.call("PATCH", `applications/${uuid(id, "application")}`, { body, signal })).json;
  }

  /**
   * Archives an application, which ends its sessions, revokes their tokens and is final (applications:write).
   *
   * @param {string} id
   * @param {Signal} [options]
   * @returns {Promise<Application>}
   */
  async archiveApplication(id, options) {
    return (await this.#caller.call("DELETE", `applications/${uuid(id, "application")}`, { ...options })).json;
  }

  /**
   * What the organization's plan allows, and how much of it is used (account:read).
   *
   * @param {Signal} [options]
   * @returns {Promise<AccountLimits>}
   */
  async limits(options) {
    return (await this.#caller.call("GET", "account/limits", { ...options })).json;
  }
}

const LIVE = "wss/get-application-sessions";

/**
 * @param {LiveQuery} query
 * @returns {Query}
 */
function liveQuery({ application, page, pageSize, search, categories }) {
  return { applicationId: application, page, pageSize, searchString: search || undefined, categories };
}

/** @param {string} application */
function sessionsPath(application) {
  return `applications/${uuid(application, "application")}/sessions`;
}

/**
 * Paths are only made of UUIDs: an empty session id must not become the route that revokes all.
 *
 * @param {string} value @param {string} what
 */
function uuid(value, what) {
  if (!/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(value)) throw new TypeError(`the id of the ${what} must be a UUID, not ${value}`);
  return value;
}

/**
 * @template {{cursor?: string}} Q
 * @template Item
 * @param {Q} query
 * @param {(query: Q) => Promise<{items: Item[], nextCursor?: string}>} ask
 * @returns {AsyncGenerator<Item, void, void>}
 */
async function* all(query, ask) {
  let next = query;
  for (;;) {
    const { items, nextCursor } = await ask(next);
    yield* items;
    if (!nextCursor) return;
    next = { ...query, cursor: nextCursor };
  }
}
