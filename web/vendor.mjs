// Copies what the dashboard uses from node_modules to vendor/, where it is served from: `npm ci && npm run vendor`. Browsers know no
// bare names of modules, and the page may hold no import map, which would be an inline script: names become paths.
import {createHash} from "node:crypto";
import {mkdir, readFile, rm, writeFile} from "node:fs/promises";

const files = [
  {file: "preact.js", from: "preact", path: "dist/preact.mjs"},
  {file: "hooks.js", from: "preact", path: "hooks/dist/hooks.mjs"},
  {file: "htm.js", from: "htm", path: "dist/htm.mjs"},
  {file: "signals-core.js", from: "@preact/signals-core", path: "dist/signals-core.mjs"},
  {file: "signals.js", from: "@preact/signals", path: "dist/signals.mjs"},
  {file: "uplot.js", from: "uplot", path: "dist/uPlot.esm.js"},
  {file: "uplot.css", from: "uplot", path: "dist/uPlot.min.css"},
];
const names = {"preact": "./preact.js", "preact/hooks": "./hooks.js", "@preact/signals-core": "./signals-core.js"};

const here = new URL("./", import.meta.url);
const read = (path) => readFile(new URL(path, here), "utf8");
const sha256 = (text) => createHash("sha256").update(text).digest("hex");

await rm(new URL("vendor/", here), {recursive: true, force: true});
await mkdir(new URL("vendor/", here));
const lock = JSON.parse(await read("package-lock.json"));
const entries = [];
const licences = new Map();
for (const {file, from, path} of files) {
  let text = await read(`node_modules/${from}/${path}`);
  const original = sha256(text);
  text = text.replace(/\n?\/\/# sourceMappingURL=.*/g, "").replace(/\b(from|import)\s*"([^."\s][^"\s]*)"/g, (_, word, name) => {
    if (!names[name]) throw new Error(`${file} imports ${name}, which is not here`);
    return `${word}"${names[name]}"`;
  });
  if (!text.endsWith("\n")) text += "\n";
  await writeFile(new URL(`vendor/${file}`, here), text);
  if (file.endsWith(".js")) { // for the checker of types, which knows the packages by name
    const name = Object.keys(names).find((name) => names[name] === `./${file}`) ?? from;
    const what = /\bexport default\b|\bexport *\{[^}]*\bas default\b/.test(text) ? "{default}" : "*";
    await writeFile(new URL(`vendor/${file.replace(".js", ".d.ts")}`, here), `export ${what} from "${name}";\n`);
  }
  const meta = JSON.parse(await read(`node_modules/${from}/package.json`));
  const integrity = lock.packages[`node_modules/${from}`].integrity;
  entries.push({file, package: from, version: meta.version, license: meta.license, integrity, path, original, sha256: sha256(text)});
  licences.set(from, `${from} ${meta.version} (${meta.license})\n\n${(await read(`node_modules/${from}/LICENSE`)).trim()}\n`);
}
await writeFile(new URL("vendor/checksums.json", here), JSON.stringify(entries, null, 2) + "\n");
await writeFile(new URL("vendor/LICENSES.txt", here), [...licences.values()].join("\n" + "-".repeat(80) + "\n\n"));
