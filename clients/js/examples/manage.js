// Finding sessions and ending them.
import { Manage, StatusError } from "@rollcallhq/client";

const manage = new Manage({ url: process.env.ROLLCALL_URL, key: process.env.ROLLCALL_KEY });
const [application] = (await manage.applications()).filter(app => app.number === "123456789");

for await (const session of manage.allSessions(application.id, { status: "all", details: true })) {
  console.log(session.name, session.derivedStatus, session.details.endReason ?? "live");
  if (session.derivedStatus === "idle") await manage.disconnect(application.id, session.id, { reason: "idle for too long" });
}
console.log("ended", await manage.revokeAll(application.id, { reason: "the signing secret leaked" }));

try {
  await manage.session(application.id, "99999999-9999-4999-8999-999999999999");
} catch (error) {
  if (!(error instanceof StatusError)) throw error;
  console.log(error.status, error.code);
}
