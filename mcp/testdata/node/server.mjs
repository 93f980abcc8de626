// An MCP server written with the official TypeScript SDK. `v1` is the legacy generation of the protocol: sessions, resumable streams.
// `v2` serves both generations, without sessions. Prints the port that it listens on.
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import * as z from "zod/v4";

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const text = text => ({ content: [{ type: "text", text }] });

// count tells of its progress; resume has its stream closed in the middle, where the transport can be resumed.
function tools(server, notify, closeStream) {
  server.registerTool("greet", { inputSchema: z.object({ name: z.string() }) }, async ({ name }) => text(`Hello, ${name}`));
  server.registerTool("count", { inputSchema: z.object({ steps: z.number() }) }, async ({ steps }, ctx) => {
    for (let i = 1; i <= steps; i++) {
      await notify(ctx, i, steps);
      await sleep(10);
    }
    return text("done");
  });
  if (closeStream) {
    server.registerTool("resume", {}, async ctx => {
      await sleep(50);
      closeStream(ctx);
      await sleep(50);
      return text("resumed");
    });
  }
  server.registerResource("page", "test://page", { mimeType: "text/plain" }, async uri =>
    ({ contents: [{ uri: uri.href, text: "contents" }] }));
}

const progress = (token, i, total) =>
  ({ method: "notifications/progress", params: { progressToken: token, progress: i, total } });

async function v1() {
  const { McpServer } = await import("@modelcontextprotocol/sdk/server/mcp.js");
  const { StreamableHTTPServerTransport } = await import("@modelcontextprotocol/sdk/server/streamableHttp.js");
  const { InMemoryEventStore } = await import("@modelcontextprotocol/sdk/examples/shared/inMemoryEventStore.js");
  const sessions = new Map();
  return async (req, res) => {
    const id = req.headers["mcp-session-id"];
    let transport = sessions.get(id);
    if (id && !transport) {
      res.writeHead(404).end("no such session");
      return;
    }
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID, eventStore: new InMemoryEventStore(), retryInterval: 50,
        onsessioninitialized: id => sessions.set(id, transport), onsessionclosed: id => sessions.delete(id),
      });
      const server = new McpServer({ name: "ts-v1", version: "1" });
      tools(server, (ctx, i, n) => ctx.sendNotification(progress(ctx._meta.progressToken, i, n)), ctx => ctx.closeSSEStream());
      await server.connect(transport);
    }
    await transport.handleRequest(req, res);
  };
}

async function v2() {
  const { createMcpHandler, McpServer } = await import("@modelcontextprotocol/server");
  const { toNodeHandler } = await import("@modelcontextprotocol/node");
  return toNodeHandler(createMcpHandler(() => {
    const server = new McpServer({ name: "ts-v2", version: "1" }, { capabilities: { tools: { listChanged: true } } });
    tools(server, (ctx, i, n) => ctx.mcpReq.notify(progress(ctx.mcpReq._meta.progressToken, i, n)));
    return server;
  }));
}

const handler = await { v1, v2 }[process.argv[2]]();
const listening = createServer((req, res) => handler(req, res)).listen(0, "127.0.0.1", () => console.log(listening.address().port));
