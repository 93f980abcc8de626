/**
 * The client of a Rollcall server: Session holds a live session, Manage and its Watch show and end those of others.
 *
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Category} Category
 * @typedef {import("./types.js").LiveQuery} LiveQuery
 * @typedef {import("./types.js").LiveList} LiveList
 * @typedef {import("./types.js").SessionInfo} SessionInfo
 * @typedef {import("./types.js").SessionDetails} SessionDetails
 * @typedef {import("./types.js").SessionQuery} SessionQuery
 * @typedef {import("./types.js").SessionList} SessionList
 * @typedef {import("./types.js").EndReason} EndReason
 * @typedef {import("./types.js").Scope} Scope
 * @typedef {import("./types.js").Action} Action
 * @typedef {import("./types.js").Application} Application
 * @typedef {import("./types.js").ApplicationInput} ApplicationInput
 * @typedef {import("./types.js").AccountLimits} AccountLimits
 * @typedef {import("./types.js").TokenInput} TokenInput
 * @typedef {import("./types.js").SignIn} SignIn
 * @typedef {import("./types.js").Series} Series
 * @typedef {import("./types.js").SeriesPoint} SeriesPoint
 * @typedef {import("./types.js").AuditQuery} AuditQuery
 * @typedef {import("./types.js").AuditRecord} AuditRecord
 * @typedef {import("./types.js").AuditList} AuditList
 * @typedef {import("./types.js").Welcome} Welcome
 * @typedef {import("./types.js").TokenNotice} TokenNotice
 * @typedef {import("./types.js").Disconnect} Disconnect
 * @typedef {import("./watch.js").View} View
 * @typedef {import("./watch.js").Change} Change
 * @typedef {import("./watch.js").WatchState} WatchState
 * @typedef {import("./watch.js").WatchEvents} WatchEvents
 * @typedef {import("./session.js").SessionState} SessionState
 * @typedef {import("./session.js").SessionEvents} SessionEvents
 * @typedef {import("./session.js").SessionOptions} SessionOptions
 * @typedef {import("./session.js").TokenRequest} TokenRequest
 */
export { EndedError, NetworkError, OutOfStepError, StatusError } from "./errors.js";
export { Manage } from "./manage.js";
export { ACTIONS, CATEGORIES, END_REASONS, SCOPES, sessionIdOf } from "./names.js";
export { compareRows, Page } from "./page.js";
export { Session } from "./session.js";
export { Watch } from "./watch.js";
