/** @import { Disconnect } from "./types.js" */

/** What the server answered to something that it refused. */
export class StatusError extends Error {
  /**
   * @param {number} status of the HTTP answer; 0 when it came as a frame or message
   * @param {string} code stable, such as api_key_invalid; the message is for people
   * @param {string} message
   * @param {{requestId?: string, retryAfterMs?: number}} [more]
   */
  constructor(status, code, message, { requestId = "", retryAfterMs = 0 } = {}) {
    super(message);
    this.name = "StatusError";
    this.status = status;
    this.code = code;
    /** Names the request in the server's log; "" when the answer had none. */
    this.requestId = requestId;
    /** The server's wish; 0 when it had none. */
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether asking again cannot help: the request was refused, not postponed. */
  get final() {
    return this.status < 500 && ![408, 425, 429].includes(this.status);
  }
}

/** The server could not be reached, or the connection was lost on the way. `cause` is the platform's error. */
export class NetworkError extends Error {
  /** @param {string} message @param {unknown} [cause] */
  constructor(message, cause) {
    super(message, { cause });
    this.name = "NetworkError";
  }
}

/** A session that the server ended for good, or that cannot come back for want of another token. */
export class EndedError extends Error {
  /**
   * @param {Disconnect} disconnect
   * @param {{cause?: StatusError, sameToken?: boolean, declined?: boolean}} [more]
   */
  constructor(disconnect, { cause, sameToken = false, declined = false } = {}) {
    let message = `the server ended the session: ${disconnect.code} ${disconnect.reason}`;
    if (cause) message += ` (${cause.code}: ${cause.message})`;
    if (sameToken) message += "; there was no other token to come back with";
    if (declined) message += "; there was no token to come back with";
    super(message, cause && { cause });
    this.name = "EndedError";
    this.disconnect = disconnect;
    this.code = disconnect.code;
    /** The server asked for re-authentication, and `token` gave one that the server had refused. */
    this.sameToken = sameToken;
  }
}

/** A message of a live stream that does not fit the page: the stream lost something, or was mixed up with another. */
export class OutOfStepError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(`the stream does not fit the page: ${message}`);
    this.name = "OutOfStepError";
  }
}

/**
 * Turns the body of an answer that is no success into an error, in whichever dialect it is.
 *
 * @param {number} status
 * @param {string} statusText
 * @param {(name: string) => string | null | undefined} header
 * @param {string} body
 * @returns {StatusError}
 */
export function refusal(status, statusText, header, body) {
  const more = { requestId: header("x-request-id") ?? "", retryAfterMs: retryAfterMs(header("retry-after"), Date.now()) };
  const said = parseObject(body);
  if (typeof said?.code === "string" && said.code) return new StatusError(status, said.code, String(said.message ?? ""), more);
  // Not Rollcall's words: a proxy in between, or another server.
  return new StatusError(status, status < 500 ? "not_found" : "unavailable", `the answer is not Rollcall's: ${statusText || status}`, more);
}

/**
 * Reads both forms of RFC 9110, section 10.2.3; anything else is 0.
 *
 * @param {string | null | undefined} value
 * @param {number} now
 */
export function retryAfterMs(value, now) {
  const text = value?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const at = /^[A-Z][a-z]{2}, /.test(text) ? Date.parse(text) : NaN;
  return at > now ? at - now : 0;
}

/**
 * @param {unknown} text
 * @returns {Record<string, any> | null} null for what is not a JSON object
 */
export function parseObject(text) {
  try {
    const value = JSON.parse(String(text));
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
