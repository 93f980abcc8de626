import { html, render } from "./html.js";
import { whoIsThere } from "./state/account.js";
import { listen } from "./keyboard.js";
import { App } from "./views/app.js";

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
listen();
void whoIsThere();
