/** @import { Disconnect } from "./types.js" */

/** What a client does after a close code, as the server's protocol page has it: [reconnect, reauthenticate]. */
const advice = new Map(/** @type {[number, [boolean, boolean, string]][]} */ ([
  [1001, [true, false, "the node is draining"]],
  [1013, [true, false, "too much at once"]],
  [4100, [true, true, "disconnected by an operator"]],
  [4101, [false, false, "the application is paused"]],
  [4102, [false, false, "the application is archived"]],
  [4103, [true, true, "all sessions were revoked"]],
  [4105, [true, true, "the token has expired"]],
  [4200, [true, false, "the first frame was not hello"]],
  [4201, [true, false, "too many frames"]],
  [4202, [true, false, "there was no hello"]],
  [4203, [true, true, "the credential was refused"]],
  [4206, [true, false, "the plan's authorized sessions are used up"]],
  [4300, [false, false, "a frame was not a JSON object with a type"]],
  [4302, [false, false, "hello has a field that is wrong"]],
  [4304, [false, false, "a frame was binary"]],
  [1002, [false, false, "a frame broke the WebSocket protocol"]],
  [1007, [false, false, "a frame was not UTF-8"]],
  [1009, [false, false, "a frame was too long"]],
]));

/**
 * The disconnect frame that a close frame stands for when the frame itself was lost; null when the code says nothing.
 *
 * @param {number} code
 * @param {string} reason
 * @returns {Disconnect | null}
 */
export function adviceOf(code, reason) {
  const known = advice.get(code);
  if (!known) return null;
  const [reconnect, reauthenticate, words] = known;
  return { code, reason: reason || words, reauthenticate, reconnect };
}
