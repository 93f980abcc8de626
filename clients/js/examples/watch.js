// Who is connected, now and from now on.
import { Manage } from "@rollcallhq/client";

const manage = new Manage({ url: process.env.ROLLCALL_URL, key: process.env.ROLLCALL_KEY });
const watch = manage.watch({ application: "123456789", pageSize: 20, search: "abc", categories: ["license", "ip"] });
watch.on("state", ({ stale, error }) => { if (stale) console.log("not up to date:", error?.message ?? "connecting"); });
process.on("SIGTERM", () => watch.close());

for await (const { items, filteredTotal, total, partial } of watch) {
  console.log(`${filteredTotal} of ${total} sessions match${partial && `, as far as is known without some ${partial}`}`);
  for (const row of items) console.log(row.serverId, row.ipAddress, row.login ?? "-", row.license ?? "-");
}
