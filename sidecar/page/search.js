"use strict";

// Texts and objects of all videos. Loaded before app.js, whose functions it calls when somebody searches.

const SHOWN_HITS = 50;
const PAUSE_MS = 200; // after the last letter
let searching = 0;

addEventListener("DOMContentLoaded", () => at("search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(() => find(at("search").value), PAUSE_MS);
}));

async function find(words) {
  if (!words.trim()) {
    at("found").hidden = true;
    return;
  }
  const query = new URLSearchParams({ q: words, limit: SHOWN_HITS });
  const page = await ask("v1/search?" + query).catch((error) => ({ hits: [], complete: true, problem: error.message }));
  if (at("search").value !== words) return; // of other words since
  const said = page.problem ? make("p", { class: "notice small" }, page.problem)
    : !page.complete ? make("p", { class: "small soft" }, "Not all results have been searched: the index is being made.")
    : page.next_cursor ? make("p", { class: "small soft" }, `These are the first ${SHOWN_HITS}.`)
    : page.hits.length ? null : make("p", { class: "soft" }, "Nothing was found.");
  at("found").replaceChildren(make("h2", {}, "Found"), ...page.hits.map(hitLine), said || "");
  at("found").hidden = false;
}

function hitLine(hit) {
  const what = hit.kind === "object" ? `${hit.text} (${hit.count})` : hit.text;
  return make("button", { class: "hit", onclick: () => openAt(hit) },
    make("span", {}, what), make("br"),
    make("span", { class: "small soft" }, `${hit.source_name || hit.job_id} \u00b7 ${clock(hit.start_s)}`));
}

function openAt(hit) {
  const video = chosen.id === hit.job_id ? document.querySelector("#result video") : null;
  if (video) video.currentTime = hit.start_s;
  else chosen.from = hit.start_s;
  choose(hit.job_id);
  if (NARROW.matches) at("detail").scrollIntoView({ behavior: "smooth" });
}
