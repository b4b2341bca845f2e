"use strict";

// The list of formats that a result can be exported to. Loaded before app.js, whose functions it calls when it is asked to.

const EXPORT_WAIT_S = 20;

function exportMenu(job, going) {
  const menu = make("select", { id: "export", "aria-label": "Export as" }, make("option", { value: "" }, "Export as …"));
  const note = make("span", { id: "export-note", class: "small soft", role: "status" });
  ask("v1/formats").then(({ formats }) => menu.append(...formats.map((one) => make("option", { value: one.format, title: one.used_by }, `${one.title} (${one.ending})`))), () => {});
  menu.addEventListener("change", async () => {
    const format = menu.value;
    menu.value = "";
    if (!format) return;
    menu.disabled = true;
    note.textContent = "being made …";
    try {
      const address = `v1/jobs/${job.job_id}/export/${format}`;
      if (await isMade(address, going)) {
        make("a", { href: address, download: "" }).click();
        note.textContent = "";
      }
    } catch (error) {
      note.textContent = String(error.message || error);
    }
    menu.disabled = false;
  });
  return make("span", { class: "row" }, menu, note);
}

// Waits for the file without fetching it; false if another job was chosen meanwhile.
async function isMade(address, going) {
  while (going()) {
    const response = await fetch(`${address}?wait=${EXPORT_WAIT_S}`, { method: "HEAD" });
    if (response.status === 200) return true;
    if (response.status !== 202) {
      await ask(address); // its error says why
      return true;
    }
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
  return false;
}
