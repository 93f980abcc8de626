// Your program: it holds a session for as long as it runs.
import { Session } from "@rollcallhq/client";

const session = new Session({
  url: process.env.ROLLCALL_URL,
  token: async ({ reason }) => {
    // reason is "connect", "renew" (it is about to expire) or "reauthenticate" (an operator ended the session: a program with a
    // person in front of it asks them to sign in before it goes on).
    console.log("a token, to", reason);
    return (await (await fetch(process.env.TOKEN_URL ?? "http://127.0.0.1:3000")).json()).token;
  },
  clientId: "client-001",
  hostname: "mbp-14",
  clientInfo: { name: "acme", version: "2.1" },
});
session.on("welcome", ({ sessionId }) => console.log("open:", sessionId));
session.on("disconnect", ({ code, reason }) => console.log("ended by the server:", code, reason));
session.on("state", ({ state, retryInMs }) => { if (state === "waiting") console.log("again in", retryInMs, "ms"); });
process.on("SIGTERM", () => session.bye());

const error = await session.start().closed; // null after bye
console.log("over:", error?.message ?? "goodbye");
