import { NetworkError, refusal } from "./errors.js";

/**
 * @typedef {object} CallerOptions
 * @property {string | URL} [url] of the server, such as https://rollcall.example.com; a path is kept as a prefix. Default: the page's origin
 * @property {string} [key] an API key; without one, the cookie of a sign-in is what counts
 * @property {typeof fetch} [fetch]
 * @property {(missing: string) => void} [onPartial] told what is missing when an answer does not show, or an act did not reach, everything:
 *   "nodes", "store" or "nodes, store"
 *
 * @typedef {Record<string, string | number | boolean | Date | readonly string[] | null | undefined>} Query
 * @typedef {{query?: Query, body?: unknown, signal?: AbortSignal | undefined}} CallOptions
 */

/** Makes HTTP calls. It holds nothing that changes. */
export class Caller {
  #base;
  #key;
  #fetch;
  #onPartial;

  /** @param {CallerOptions} options */
  constructor({ url, key, fetch: given, onPartial }) {
    this.#base = baseURL(url);
    this.#key = key;
    this.#fetch = given ?? globalThis.fetch.bind(globalThis);
    this.#onPartial = onPartial;
  }

  /** What a WebSocket's upgrade has to carry; undefined when that is the cookie. */
  get authorization() {
    return this.#key === undefined ? undefined : `Bearer ${this.#key}`;
  }

  /**
   * @param {string} path below /api/v1/
   * @param {Query} [query]
   */
  url(path, query = {}) {
    const url = routeURL(this.#base, path);
    for (const [name, value] of Object.entries(query)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined && one !== null) url.searchParams.append(name, one instanceof Date ? one.toISOString() : String(one));
      }
    }
    return url;
  }

  /**
   * Calls, and returns the answer's JSON and what of its headers matters. Throws a StatusError when the server refused, a NetworkError
   * when there was no answer, the signal's reason when it was aborted.
   *
   * @param {string} method
   * @param {string} path below /api/v1/
   * @param {CallOptions} [options]
   * @returns {Promise<{json: any, partial: string, applicationId: string}>}
   */
  async call(method, path, { query, body, signal } = {}) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.authorization) headers.authorization = this.authorization;
    if (body !== undefined) headers["content-type"] = "application/json";
    let response, text;
    try {
      response = await this.#fetch(this.url(path, query), {
        method, headers, credentials: this.authorization ? "omit" : "same-origin", cache: "no-store", redirect: "error",
        ...(body !== undefined && { body: JSON.stringify(body) }), ...(signal && { signal }),
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new NetworkError("the server cannot be reached", error);
    }
    const { headers: got, status } = response;
    if (!response.ok) throw refusal(status, response.statusText, name => got.get(name), text);
    const partial = got.get("rollcall-partial") ?? "";
    if (partial) this.#onPartial?.(partial);
    return { json: text ? parse(text, status) : null, partial, applicationId: got.get("rollcall-application") ?? "" };
  }
}

/** @param {string} text @param {number} status */
function parse(text, status) {
  try {
    return JSON.parse(text);
  } catch {
    throw refusal(status, "it is not JSON", () => null, ""); // a page of a proxy, say, or of another server
  }
}

/**
 * @param {string | URL | undefined} given
 * @returns {URL} http: or https:, without query and fragment
 */
export function baseURL(given) {
  const text = given ?? /** @type {any} */ (globalThis).location?.origin;
  if (text === undefined) throw new TypeError("url is required where there is no page to take it from");
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new TypeError(`url must look like https://rollcall.example.com, not ${text}`);
  }
  const scheme = { "http:": "http:", "https:": "https:", "ws:": "http:", "wss:": "https:" }[url.protocol];
  if (!scheme) throw new TypeError(`url must look like https://rollcall.example.com, not ${text}`);
  url.protocol = scheme;
  url.search = url.hash = "";
  return url;
}

/** @param {URL} base @param {string} path below /api/v1/ */
export function routeURL(base, path) {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/api/v1/${path}`;
  return url;
}

/** @param {URL} url */
export function webSocketURL(url) {
  const ws = new URL(url);
  ws.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return ws;
}
