// Puts the JavaScript client where the server puts it for the page.
import { register } from "node:module";

const client = new URL("../../clients/js/src/index.js", import.meta.url).href;
const hooks = `export const resolve = (name, context, next) => name.endsWith("/client/index.js") ? { url: ${JSON.stringify(client)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
