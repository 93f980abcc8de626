import assert from "node:assert/strict";
import { test } from "node:test";
import { refusal, retryAfterMs } from "../src/errors.js";

for (const [status, body, code, message, final] of /** @type {[number, string, string, string, boolean][]} */ ([
  [404, `{"message":"no such session","statusCode":404,"code":"session_not_found"}`, "session_not_found", "no such session", true],
  [403, `{"success":false,"code":"plan_restricted","message":"the plan"}`, "plan_restricted", "the plan", true],
  [429, `{"message":"slower","statusCode":429,"code":"rate_limited"}`, "rate_limited", "slower", false],
  [408, "", "not_found", "the answer is not Rollcall's: words", false],
  [503, `{"message":"draining","statusCode":503,"code":"unavailable"}`, "unavailable", "draining", false],
  [502, "<h1>Bad Gateway</h1>", "unavailable", "the answer is not Rollcall's: words", false],
  [404, `{"code":7}`, "not_found", "the answer is not Rollcall's: words", true],
  [404, `[]`, "not_found", "the answer is not Rollcall's: words", true],
  [404, `null`, "not_found", "the answer is not Rollcall's: words", true],
  [400, `{"code":"validation_error"}`, "validation_error", "", true],
])) {
  test(`a refusal: ${status} ${body}`, () => {
    const error = refusal(status, "words", name => name === "x-request-id" ? "r-1" : null, body);
    assert.deepEqual([error.status, error.code, error.message, error.final, error.requestId], [status, code, message, final, "r-1"]);
  });
}

test("Retry-After in both its forms", () => {
  const now = Date.parse("2026-05-12T12:00:00Z");
  for (const [value, want] of /** @type {[string | null, number][]} */ ([
    ["7", 7000], [" 0 ", 0], ["Tue, 12 May 2026 12:00:30 GMT", 30_000], ["Tue, 12 May 2026 11:00:00 GMT", 0],
    [null, 0], ["", 0], ["-1", 0], ["1.5", 0], ["soon", 0], ["99999999999", 0], ["2027-01-01", 0],
  ])) assert.equal(retryAfterMs(value, now), want, String(value));
});
