// How to connect a first session, as code to paste.

/**
 * @typedef {object} Facts
 * @property {string} url of the server
 * @property {string} application its number
 * @property {string} token "" = none could be issued
 * @property {string} publishableKey
 */

/** @type {{name: string, code: (facts: Facts) => string}[]} */
export const snippets = [
  {
    name: "Go",
    code: ({ url, application, token, publishableKey }) => `package main

import (
	"context"
	"log"

	"github.com/rollcallhq/rollcall/client"
)

func main() {
	log.Fatal(client.Hold(context.Background(), client.SessionConfig{
		URL:         ${quote(url)},
		Application: ${quote(application)},
		${token ? `Token: func(context.Context) (string, error) {
			return ${quote(token)}, nil // your backend's, later
		},` : `PublishableKey: ${quote(publishableKey)},`}
		ClientID: "first-client",
		OnEvent:  func(e client.Event) { log.Printf("%T %+v", e, e) },
	}))
}
`,
  },
  {
    name: "JavaScript",
    code: ({ url, application, token, publishableKey }) => `import { Session } from "@rollcallhq/client";

const session = new Session({
  url: ${quote(url)},
  application: ${quote(application)},
  ${token ? `token: async () => ${quote(token)}, // your backend's, later` : `publishableKey: ${quote(publishableKey)},`}
  clientId: "first-client",
});
session.on("welcome", ({ sessionId }) => console.log("connected as", sessionId));
session.on("disconnect", ({ reason }) => console.log("disconnected:", reason));
session.start();
`,
  },
  {
    name: "curl",
    code: ({ url, application, token, publishableKey }) => `# A session without a connection, for 90 seconds: a lease.
curl -X POST ${url}/api/v1/sessions \\
  ${token ? `-H "Authorization: Bearer ${token}" \\\n  ` : ""}-H "Content-Type: application/json" \\
  -d '${JSON.stringify({ application, ...(token ? {} : { publishableKey }), clientId: "first-client", hostname: "my-machine", leaseSeconds: 90 })}'
`,
  },
];

/** @param {string} text */
const quote = text => JSON.stringify(text);
