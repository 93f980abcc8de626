// Why a session's derived status is what it is, in words: the same rules as the server's.
import { endName } from "./names.js";
import { relative, rough } from "./format.js";

/** @typedef {import("../client.js").SessionInfo} SessionInfo */

/**
 * @param {SessionInfo} session
 * @param {number} now
 * @returns {{word: SessionInfo["derivedStatus"], reason: string, tone: "good" | "idle" | "warn" | "quiet" | "bad"}}
 */
export function statusOf(session, now) {
  const { derivedStatus: word, details } = session;
  switch (word) {
    case "disconnected": {
      const end = details?.endReason;
      const how = end === "disconnected" ? "by an operator" : end ? endName(end).toLowerCase() : "the connection is closed";
      const when = session.disconnectedAt ? `, ${relative(session.disconnectedAt, now)}` : "";
      return { word, reason: how + when, tone: "quiet" };
    }
    case "expired":
      return { word, reason: session.tokenExpiresAt ? `the token ran out ${relative(session.tokenExpiresAt, now)}` : "the token ran out", tone: "warn" };
    case "idle":
      return { word, reason: `no activity for ${rough(since(session.lastActiveAt ?? session.createdAt, now))}`, tone: "idle" };
    default:
      return { word, reason: session.lastActiveAt ? `last activity ${relative(session.lastActiveAt, now)}` : "connected", tone: "good" };
  }
}

/** @param {string} time @param {number} now */
const since = (time, now) => now - Date.parse(time);

/** What to call a session: what a person would recognize first. @param {{login?: string | null, license?: string | null, clientId: string}} session */
export const callIt = ({ login, license, clientId }) => login || license || clientId;
