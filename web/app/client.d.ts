// The server puts the JavaScript client beside these files; in the repository it lies elsewhere.
export * from "../../clients/js/src/index.js";
