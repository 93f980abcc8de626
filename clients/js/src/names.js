/** The columns that a search can look at. */
export const CATEGORIES = Object.freeze(/** @type {const} */ (["license", "ip", "clientId"]));

/** How sessions end. */
export const END_REASONS = Object.freeze(/** @type {const} */ ([
  "client_closed", "connection_lost", "ping_timeout", "lease_expired", "token_expired", "disconnected", "revoked",
  "application_paused", "application_archived", "rate_limited", "protocol_error", "node_draining", "server_stopped", "node_lost",
]));

/** What an API key can be allowed to do. */
export const SCOPES = Object.freeze(/** @type {const} */ ([
  "sessions:read", "sessions:disconnect", "sessions:create", "applications:read", "applications:write", "account:read", "audit:read",
]));

/** What an audit record can be of. */
export const ACTIONS = Object.freeze(/** @type {const} */ ([
  "session.disconnected", "sessions.disconnected", "sessions.revoked", "application.created", "application.updated",
  "application.paused", "application.resumed", "application.archived", "api_key.created", "api_key.updated", "api_key.revoked",
  "organization.created", "organization.updated", "session_token.issued", "sign_in", "sign_out",
]));

/**
 * The session's id, which the Sessions dialect takes: what stands after the node's name in `<node>:<session id>`.
 *
 * @param {string} serverId
 */
export function sessionIdOf(serverId) {
  return serverId.slice(serverId.lastIndexOf(":") + 1);
}
