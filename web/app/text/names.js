// What the words of the API are called on the page.

/** @type {Record<import("../client.js").EndReason, string>} */
const ENDS = {
  client_closed: "Closed by the client",
  connection_lost: "Connection lost",
  ping_timeout: "No answer to pings",
  lease_expired: "Lease ran out",
  token_expired: "Token expired",
  disconnected: "Disconnected",
  revoked: "Revoked",
  application_paused: "Application paused",
  application_archived: "Application archived",
  rate_limited: "Too many messages",
  protocol_error: "Protocol error",
  node_draining: "Server restarted",
  server_stopped: "Server stopped",
  node_lost: "Server lost",
};

/** @param {string | undefined} reason */
export const endName = reason => (reason && Object.hasOwn(ENDS, reason) ? ENDS[/** @type {keyof typeof ENDS} */ (reason)] : reason ?? "Unknown");

/** Who did it, as a colour: an operator, nobody's fault, or trouble. @param {string | undefined} reason @returns {"bad" | "quiet" | "warn"} */
export function endTone(reason) {
  if (reason === "disconnected" || reason === "revoked" || reason?.startsWith("application_")) return "bad";
  return reason === "client_closed" || reason === "node_draining" ? "quiet" : "warn";
}

/** @type {Record<import("../client.js").Action, string>} */
const ACTION_NAMES = {
  "session.disconnected": "Session disconnected",
  "sessions.disconnected": "Disconnected by search",
  "sessions.revoked": "All sessions revoked",
  "application.created": "Application created",
  "application.updated": "Application changed",
  "application.paused": "Application paused",
  "application.resumed": "Application resumed",
  "application.archived": "Application archived",
  "api_key.created": "API key created",
  "api_key.updated": "API key changed",
  "api_key.revoked": "API key revoked",
  "organization.created": "Organization created",
  "organization.updated": "Organization changed",
  "session_token.issued": "Session token issued",
  "sign_in": "Signed in",
  "sign_out": "Signed out",
};

/** @param {string} action */
export const actionName = action =>
  Object.hasOwn(ACTION_NAMES, action) ? ACTION_NAMES[/** @type {keyof typeof ACTION_NAMES} */ (action)] : action;

/** @type {Record<import("../client.js").Category, string>} */
export const CATEGORY_NAMES = { license: "License", ip: "IP address", clientId: "Client ID" };

/** The columns of a search within a sentence. @param {readonly import("../client.js").Category[]} categories @param {"and" | "or"} word */
export function columns(categories, word) {
  const names = categories.map(one => ({ license: "license", ip: "IP address", clientId: "client ID" })[one]);
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${word} ${names.at(-1)}`;
}

/** The spans of time that lists offer, in milliseconds. @type {Record<string, {name: string, ms: number}>} */
export const RANGES = {
  "1h": { name: "Last hour", ms: 3_600_000 },
  "24h": { name: "Last 24 hours", ms: 86_400_000 },
  "7d": { name: "Last 7 days", ms: 7 * 86_400_000 },
  "30d": { name: "Last 30 days", ms: 30 * 86_400_000 },
};
