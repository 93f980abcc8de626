// A client written with the official TypeScript SDK: `v1`, or `v2` as a `legacy` or `modern` one. Connects, does what the server
// offers, and prints what it saw, a line each. With a last argument `hold` it stays, and prints how a long call ended.
const [version, era, endpoint, token, hold] = process.argv.slice(2);
const note = (what, value) => console.log(what, JSON.stringify(value));

const { Client } = version === "v1" ? await import("@modelcontextprotocol/sdk/client/index.js") : await import("@modelcontextprotocol/client");
const { StreamableHTTPClientTransport } = version === "v1" ? await import("@modelcontextprotocol/sdk/client/streamableHttp.js")
  : await import("@modelcontextprotocol/client");

const options = version === "v1" ? {} : { versionNegotiation: { mode: era === "modern" ? "auto" : "legacy" } };
const headers = token ? { Authorization: `Bearer ${token}` } : {};

function open(name) {
  const client = new Client({ name, version: "1.0" }, options);
  const transport = new StreamableHTTPClientTransport(new URL(endpoint), { requestInit: { headers } });
  transport.onerror = () => {}; // streams that end are part of it
  return client.connect(transport).then(() => ({ client, transport }));
}

const call = (client, name, args, seen) => {
  const params = { name, arguments: args };
  return version === "v1" ? client.callTool(params, undefined, seen) : client.callTool(params, seen);
};

const { client, transport } = await open(`ts-${version}-${era}`);
note("server", [client.getServerVersion(), client.getServerCapabilities()]);
if (hold) {
  let running = false;
  const onprogress = () => { if (!running) { running = true; console.log("running"); } };
  const ended = await call(client, "count", { steps: 3000 }, { onprogress }).then(() => "answered", error => `failed: ${error.message}`);
  note("call", ended);
  note("next", await client.listTools().then(() => "answered", error => `failed: ${error.code ?? ""} ${error.message}`));
  process.exit(0);
}
const { tools } = await client.listTools();
note("tools", tools);
const has = name => tools.some(tool => tool.name === name);
if (has("greet")) note("greet", await call(client, "greet", { name: "Jo" }));
if (has("echo")) note("echo", await call(client, "echo", { message: "Grüße" }));
if (has("count")) {
  const steps = [];
  note("count", await call(client, "count", { steps: 5 }, { onprogress: p => steps.push(p.progress) }));
  note("progress", steps);
}
if (has("trigger-long-running-operation")) {
  const steps = [];
  note("long", await call(client, "trigger-long-running-operation", { duration: 0.3, steps: 3 }, { onprogress: p => steps.push(p.progress) }));
  note("progress", steps);
}
if (has("resume")) {
  let resumable = false;
  note("resume", await call(client, "resume", {}, { onresumptiontoken: () => { resumable = true; } }));
  note("resumable", resumable);
}
if (has("start-notification-stream")) note("stream", await call(client, "start-notification-stream", { interval: 20, count: 3 }));
note("no tool", await call(client, "no such tool", {}).then(r => r.isError, error => error.code));
const { resources } = await client.listResources();
note("resources", resources.map(r => r.uri).sort());
note("read", await client.readResource({ uri: resources[0].uri }).then(r => r.contents.length));
const others = await Promise.all([1, 2, 3].map(i => open(`ts-parallel-${i}`)));
note("parallel", await Promise.all(others.map(async o => (await o.client.listTools()).tools.length)));
for (const o of [...others, { client, transport }]) {
  if (o.transport.sessionId) await o.transport.terminateSession();
  await o.client.close();
}
note("closed", true);
process.exit(0);
