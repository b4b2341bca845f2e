"use strict";

const BASE = new URL(".", location).href.replace(/\/$/, ""); // below a path, where a proxy shows the sidecar there

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function curl(method, path, call) {
  const url = BASE + path.replace("{filename}", "video.mp4").replace("{job_id}", "JOB_ID");
  if (path.endsWith("/submit")) return `curl -F file=@video.mp4 ${url}`;
  if (method === "PUT") return `curl -T video.mp4 ${url}`;
  return method === "GET" ? `curl ${url}` : `curl -X ${method} ${url}`;
}

function kind(schema) {
  if (schema.enum) return schema.enum.join(" | ");
  return schema.type || "any";
}

function rows(title, entries) {
  if (!entries.length) return "";
  return make("table", {}, make("thead", {}, make("tr", {}, ...title.map((text) => make("th", {}, text)))),
    make("tbody", {}, ...entries.map((cells) => make("tr", {}, ...cells.map((text) => make("td", {}, text))))));
}

function show(description) {
  const calls = document.getElementById("calls");
  calls.append(make("p", { class: "soft" }, description.info.description));
  for (const [path, methods] of Object.entries(description.paths)) {
    if (path.startsWith("/video/")) continue;
    for (const [name, call] of Object.entries(methods)) {
      const method = name.toUpperCase();
      const asked = (call.parameters || []).map((p) => [p.name, p.in, kind(p.schema), p.description || ""]);
      const form = call.requestBody && call.requestBody.content["multipart/form-data"];
      if (form) {
        for (const [field, schema] of Object.entries(form.schema.properties)) {
          asked.push([field, "form", schema.format === "binary" ? "file" : kind(schema), schema.description || ""]);
        }
      }
      const answers = Object.entries(call.responses).map(([status, answer]) => {
        const common = answer.$ref ? description.components.responses[answer.$ref.split("/").pop()] : answer;
        return [status, common.description];
      });
      calls.append(make("details", {},
        make("summary", {}, make("span", { class: "method" }, method), make("code", {}, path), make("span", { class: "soft" }, "  " + call.summary)),
        make("pre", {}, curl(method, path, call)),
        rows(["Parameter", "In", "Type", ""], asked),
        rows(["Answer", ""], answers)));
    }
  }
  calls.append(make("p", { class: "soft small" }, "The calls under /v1/video/ answer under /video/ as well."));
  for (const [name, schema] of Object.entries(description.components.schemas)) {
    calls.append(make("details", {}, make("summary", {}, make("span", { class: "method" }, "JSON"), make("code", {}, name)),
      make("pre", {}, JSON.stringify(schema, null, 2))));
  }
}

fetch("openapi.json").then((response) => response.json()).then(show);
