// Your backend: it knows who is signed in, and has the API key that clients must never see.
import { createServer } from "node:http";
import { Manage } from "@rollcallhq/client";

const manage = new Manage({ url: process.env.ROLLCALL_URL, key: process.env.ROLLCALL_KEY });
const application = process.env.ROLLCALL_APPLICATION; // its id

createServer(async (request, response) => {
  const login = "john@example.com"; // whoever your own session cookie says
  const { token } = await manage.issueToken(application, { login, license: "ABCDEF-123456", expiresIn: 3600 });
  response.setHeader("Content-Type", "application/json").end(JSON.stringify({ token }));
}).listen(process.env.PORT ?? 3000, "127.0.0.1");
