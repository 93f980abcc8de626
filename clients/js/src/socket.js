/** @import { StatusError } from "./errors.js" */
import { NetworkError } from "./errors.js";
import { nodeSocket } from "./node-socket.js";

/**
 * One WebSocket, whoever provides it. The handlers are called in order; `close` comes once and is the last.
 *
 * @typedef {object} Handlers
 * @property {() => void} open
 * @property {(text: string) => void} message
 * @property {() => void} ping the server pinged; see `seesPings`
 * @property {(end: Ending) => void} close
 *
 * @typedef {object} Ending
 * @property {number} code of the close frame; 1006 when there was none
 * @property {string} reason
 * @property {StatusError} [refusal] the server's answer to the upgrade, where it can be seen
 * @property {Error} [error] what went wrong, where it is known
 *
 * @typedef {object} Socket
 * @property {boolean} seesPings whether the server's silence can be told from quiet
 * @property {(text: string) => void} send does nothing once the socket is closing
 * @property {(code?: number) => void} close starts the closing handshake
 * @property {() => void} drop closes without waiting for the server; `close` follows at once
 *
 * @typedef {new (url: string, options?: any) => any} WebSocketClass as browsers, Node, Deno, Bun and the package ws have it
 *
 * @typedef {object} SocketOptions
 * @property {URL} url
 * @property {string[]} protocols
 * @property {string} [authorization] header of the upgrade
 * @property {WebSocketClass} [WebSocket]
 */

/**
 * Opens a WebSocket: with the class given, else in Node with this package's own, else with the platform's.
 *
 * In Node the package's own comes first, since Node 20 has none without a flag, and since that of later versions shows neither the
 * server's pings, without which a dead connection goes unnoticed, nor why an upgrade was refused.
 *
 * @param {SocketOptions} options
 * @param {Handlers} handlers
 * @returns {Socket}
 */
export function openSocket(options, handlers) {
  const Class = options.WebSocket ?? (isNode() ? null : globalThis.WebSocket);
  if (Class) return platformSocket(Class, options, handlers);
  if (isNode()) return nodeSocket(options, handlers);
  throw new TypeError("there is no WebSocket here: give one as the option WebSocket");
}

function isNode() {
  const g = /** @type {any} */ (globalThis);
  return g.process?.release?.name === "node" && typeof g.process.getBuiltinModule === "function" && typeof g.document === "undefined"
    && !g.Deno && !g.Bun;
}

/**
 * @param {WebSocketClass} Class
 * @param {SocketOptions} options
 * @param {Handlers} handlers
 * @returns {Socket}
 */
function platformSocket(Class, { url, protocols, authorization }, handlers) {
  const ws = authorization ? withHeaders(Class, url, protocols, authorization) : new Class(url.href, protocols);
  let closed = false;
  const close = (/** @type {Ending} */ end) => {
    if (closed) return;
    closed = true;
    handlers.close(end);
  };
  ws.onopen = () => { if (!closed) handlers.open(); };
  ws.onmessage = (/** @type {{data: unknown}} */ event) => {
    if (!closed && typeof event.data === "string") handlers.message(event.data);
  };
  ws.onerror = () => {}; // it says nothing that close does not
  ws.onclose = (/** @type {{code: number, reason: string}} */ event) => close({ code: event.code, reason: event.reason });
  const seesPings = typeof ws.on === "function"; // the package ws
  if (seesPings) ws.on("ping", () => handlers.ping());
  return {
    seesPings,
    send: text => { if (ws.readyState === OPEN) ws.send(text); },
    close: (code = 1000) => {
      if (ws.readyState === CONNECTING || ws.readyState === OPEN) ws.close(code);
    },
    drop: () => {
      // Browsers wait for the server's close frame, a dead one's for minutes: nobody here does.
      ws.onopen = ws.onmessage = ws.onclose = null;
      if (typeof ws.terminate === "function") ws.terminate();
      else ws.close();
      queueMicrotask(() => close({ code: 1006, reason: "", error: new NetworkError("the connection was given up") }));
    },
  };
}

const CONNECTING = 0, OPEN = 1;

/**
 * Node's, Deno's and Bun's classes, and that of ws, take headers in an object as their second argument; browsers' take none.
 *
 * @param {WebSocketClass} Class
 * @param {URL} url
 * @param {string[]} protocols
 * @param {string} authorization
 */
function withHeaders(Class, url, protocols, authorization) {
  try {
    return new Class(url.href, { headers: { authorization }, ...(protocols.length && { protocols }) });
  } catch (cause) {
    throw new TypeError("this WebSocket cannot send an API key: in a browser, sign in and leave the key out", { cause });
  }
}
