// The calls, as /openapi.json describes them.

import { Api } from "./api.js";
import { make, sentence } from "./dom.js";
import { Login } from "./login.js";

const BASE = new URL(".", location.href).href.replace(/\/$/, ""); // below a path, where a proxy shows the sidecar there

/** @typedef {{type?: string, enum?: string[], format?: string, description?: string}} Schema */

/**
 * @param {string} method
 * @param {string} path
 */
function curl(method, path) {
  const url = BASE + path.replace("{filename}", "video.mp4").replace("{job_id}", "JOB_ID");
  if (path.endsWith("/submit")) return `curl -F file=@video.mp4 ${url}`;
  if (method === "PUT") return `curl -T video.mp4 ${url}`;
  return method === "GET" ? `curl ${url}` : `curl -X ${method} ${url}`;
}

/** @param {Schema} schema */
const kind = (schema) => (schema.enum ? schema.enum.join(" | ") : schema.type || "any");

/**
 * @param {string[]} title
 * @param {string[][]} entries
 */
function rows(title, entries) {
  if (!entries.length) return "";
  return make("table", {}, make("thead", {}, make("tr", {}, ...title.map((text) => make("th", {}, text)))),
    make("tbody", {}, ...entries.map((cells) => make("tr", {}, ...cells.map((text) => make("td", {}, text))))));
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} call
 * @param {any} components
 */
function described(method, path, call, components) {
  const asked = (call.parameters || []).map((/** @type {any} */ p) => [p.name, p.in, kind(p.schema), p.description || ""]);
  const form = call.requestBody?.content["multipart/form-data"];
  for (const [field, schema] of Object.entries(/** @type {Record<string, Schema>} */ (form?.schema.properties ?? {}))) {
    asked.push([field, "form", schema.format === "binary" ? "file" : kind(schema), schema.description || ""]);
  }
  const answers = Object.entries(/** @type {Record<string, any>} */ (call.responses)).map(([status, answer]) => {
    const common = answer.$ref ? components.responses[answer.$ref.split("/").pop()] : answer;
    return [status, common.description];
  });
  return make("details", {},
    make("summary", {}, make("span", { class: "method" }, method), make("code", {}, path), make("span", { class: "soft" }, `  ${call.summary}`)),
    make("pre", { tabindex: 0 }, curl(method, path)),
    rows(["Parameter", "In", "Type", "Meaning"], asked),
    rows(["Answer", "Meaning"], answers));
}

/** @param {any} description */
function* parts(description) {
  yield make("p", { class: "soft" }, description.info.description);
  for (const [path, methods] of Object.entries(description.paths)) {
    if (path.startsWith("/video/")) continue;
    for (const [name, call] of Object.entries(methods)) yield described(name.toUpperCase(), path, call, description.components);
  }
  yield make("p", { class: "soft small" }, "The calls under /v1/video/ answer under /video/ as well.");
  for (const [name, schema] of Object.entries(description.components.schemas)) {
    yield make("details", {}, make("summary", {}, make("span", { class: "method" }, "JSON"), make("code", {}, name)),
      make("pre", { tabindex: 0 }, JSON.stringify(schema, null, 2)));
  }
}

const login = new Login();
const calls = /** @type {HTMLElement} */ (document.getElementById("calls"));
try {
  calls.append(...parts(await new Api((check) => login.ask(check)).get("openapi.json")));
} catch (error) {
  calls.append(make("p", { class: "notice" }, sentence(error)));
}
