/**
 * What goes over the wire, as docs/management-api.md and docs/protocol.md of the server describe it.
 *
 * @typedef {object} Row a live session of a live query
 * @property {string} serverId `<node>:<session id>`
 * @property {string} ipAddress
 * @property {number} createdAt Unix milliseconds
 * @property {string} clientId the session's id when the client gave none
 * @property {string | null} login
 * @property {string | null} license
 *
 * @typedef {"license" | "ip" | "clientId"} Category
 *
 * @typedef {object} LiveQuery
 * @property {string} application number or id
 * @property {number} [page] from 1; default 1
 * @property {number} [pageSize] 1 to 50; default 10
 * @property {string} [search] case-insensitive substring, at most 128 characters; "" matches all
 * @property {Category[]} [categories] where to search; default license
 *
 * @typedef {object} Counts
 * @property {number} total
 * @property {number} filteredTotal
 * @property {number} authorizedSessionCount of the whole organization
 *
 * @typedef {object} LivePage
 * @property {Row[]} items newest first
 * @property {number} page
 * @property {number} pageSize
 * @property {number} lastConnectionTime Unix milliseconds; 0 = never
 *
 * @typedef {object} Whole
 * @property {string} partial what is missing in the answer, such as "nodes"; "" when it shows everything
 *
 * @typedef {LivePage & Counts & Whole & {success: boolean, message: string, applicationId: string}} LiveList
 *
 * @typedef {object} SessionInfo
 * @property {string} id
 * @property {string} name
 * @property {"active" | "disconnected"} status
 * @property {"active" | "idle" | "expired" | "disconnected"} derivedStatus
 * @property {string} [tokenExpiresAt]
 * @property {string} [lastActiveAt]
 * @property {string} [connectedAt]
 * @property {string} [disconnectedAt]
 * @property {string} createdAt
 * @property {string} agentId the application
 * @property {string} organizationId
 * @property {string | null} hostname
 * @property {string | null} userAgent
 * @property {Record<string, any> | null} clientInfo
 * @property {SessionDetails} [details] when asked for
 *
 * @typedef {object} SessionDetails
 * @property {string} serverId
 * @property {string} ipAddress
 * @property {string | null} login
 * @property {string | null} license
 * @property {string} clientId
 * @property {boolean} authorized
 * @property {EndReason} [endReason]
 * @property {string} [endedBy] an API key's public id, or admin
 * @property {string} [reason] the operator's words
 *
 * @typedef {(typeof import("./names.js").END_REASONS)[number]} EndReason
 * @typedef {(typeof import("./names.js").SCOPES)[number]} Scope
 * @typedef {(typeof import("./names.js").ACTIONS)[number]} Action
 *
 * @typedef {object} SessionQuery
 * @property {"active" | "inactive" | "all"} [status]
 * @property {number} [limit] of one answer, 1 to 1000; default 100
 * @property {string} [cursor] `nextCursor` of the answer before
 * @property {boolean} [details]
 * @property {Date | string} [endedAfter]
 * @property {Date | string} [endedBefore]
 * @property {EndReason | EndReason[]} [endReason]
 *
 * @typedef {Whole & {items: SessionInfo[], nextCursor?: string}} SessionList
 *
 * @typedef {object} Application
 * @property {string} id
 * @property {string} number
 * @property {string} name
 * @property {"active" | "paused" | "archived"} state
 * @property {string} organizationId
 * @property {string} publishableKey
 * @property {string} idleAfter such as "5m0s"
 * @property {string[]} allowedOrigins
 * @property {boolean} strictRevocation
 * @property {{hs256: boolean, jwksUrl?: string, issuer?: string, audience?: string}} tokens
 * @property {string} createdAt
 * @property {{active: number, idle: number, live: number, total: number}} [sessions]
 *
 * @typedef {object} ApplicationInput what is left out stays, or gets the server's default
 * @property {string} [name]
 * @property {"active" | "paused"} [state]
 * @property {string} [idleAfter]
 * @property {string[]} [allowedOrigins]
 * @property {boolean} [strictRevocation]
 * @property {{hs256Secret?: string, jwksUrl?: string, issuer?: string, audience?: string}} [tokens]
 *
 * @typedef {{currentValue: number, maxValue: number | null}} Limit
 * @typedef {{planName: string, authorizedSessions: Limit, applications: Limit, apiKeys: Limit}} AccountLimits
 *
 * @typedef {object} TokenInput
 * @property {string} [login]
 * @property {string} [license]
 * @property {string} [clientId]
 * @property {string} [name]
 * @property {number} expiresIn seconds
 *
 * @typedef {object} SignIn
 * @property {{publicId: string, name: string, lastFour: string, scopes: Scope[], applications: "all" | string[], expiresAt?: string}} key
 * @property {{id: string, name: string}} organization
 * @property {string} expiresAt
 *
 * @typedef {{time: string, live: number, connects: number, ends: number}} SeriesPoint
 * @typedef {Whole & {stepSeconds: number, items: SeriesPoint[]}} Series
 *
 * @typedef {object} AuditQuery
 * @property {number} [limit]
 * @property {string} [cursor]
 * @property {Date | string} [from]
 * @property {Date | string} [to]
 * @property {Action | Action[]} [action]
 * @property {string} [applicationId]
 *
 * @typedef {object} AuditRecord
 * @property {string} id
 * @property {string} time
 * @property {Action} action
 * @property {{type: "api_key" | "admin" | "bootstrap", publicId?: string, name?: string}} actor
 * @property {string | null} ipAddress
 * @property {string | null} applicationId
 * @property {string | null} target
 * @property {number | null} count
 * @property {string | null} reason
 * @property {Record<string, any> | null} details
 *
 * @typedef {Whole & {items: AuditRecord[], nextCursor?: string}} AuditList
 *
 * @typedef {object} Welcome
 * @property {string} sessionId
 * @property {string} serverId
 * @property {boolean} authorized
 * @property {string} [tokenExpiresAt]
 * @property {number} pingIntervalMs
 *
 * @typedef {{tokenExpiresAt: string}} TokenNotice
 *
 * @typedef {object} Disconnect
 * @property {number} code
 * @property {string} reason for people
 * @property {boolean} reauthenticate
 * @property {boolean} reconnect
 * @property {number} [retryAfterMs]
 */

export {};
