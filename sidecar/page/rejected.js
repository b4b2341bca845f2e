"use strict";

// The files of the inbox that were not taken in. Loaded before app.js, whose functions it calls when it is asked to.

const SHOWN_REJECTED = 20;

async function listRejected() {
  const page = await ask(`v1/rejected?limit=${SHOWN_REJECTED}`).catch(() => null);
  if (!page) return; // it does not answer at the moment; the health line says so
  at("rejected").hidden = !page.count;
  at("rejected-count").textContent = page.count || "";
  const more = page.count - page.rejected.length;
  at("rejected-files").replaceChildren(
    ...page.rejected.map((file) => make("p", { class: "small", title: file.path },
      make("strong", {}, file.name), make("br"), file.reason, make("br"),
      make("span", { class: "soft" }, `${moment(file.rejected_at)} · ${bytes(file.size_bytes)}`))),
    more > 0 ? make("p", { class: "small soft" }, `${more} more in inbox/rejected.`) : "");
}
