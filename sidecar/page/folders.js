"use strict";

// What was dropped on the page, folders with all that is in them. Loaded before app.js.

// A folder holds other things too: only what is a video by the chooser's own list, or to the browser, is sent.
function looksLikeVideo(file) {
  const endings = at("files").accept.split(",").map((one) => one.trim().toLowerCase()).filter((one) => one.startsWith("."));
  return file.type.startsWith("video/") || endings.some((ending) => file.name.toLowerCase().endsWith(ending));
}

async function filesOf(transfer) {
  // The entries are there only until the event is over, so all are asked for before anything is awaited.
  const dropped = [...transfer.items].filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry && item.webkitGetAsEntry(), file: item.getAsFile() }));
  if (!dropped.some(({ entry }) => entry && entry.isDirectory)) return { files: [...transfer.files], left: 0 };
  const found = { files: [], left: 0 };
  for (const { entry, file } of dropped) {
    if (!entry || entry.isFile) found.files.push(file);
    else await collect(entry, found);
  }
  return found;
}

async function collect(folder, found) {
  const entries = [];
  const reader = folder.createReader();
  for (;;) {
    const some = await new Promise((good, bad) => reader.readEntries(good, bad)); // a hundred at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  for (const entry of entries) {
    if (/^[.~@#$]/.test(entry.name) && entry.isDirectory) continue; // recycle bins and their like
    if (entry.isDirectory) await collect(entry, found);
    else if (!entry.name.startsWith(".")) {
      const file = await new Promise((good, bad) => entry.file(good, bad));
      if (looksLikeVideo(file)) found.files.push(file);
      else found.left += 1;
    }
  }
}

async function submitDropped(transfer) {
  let left = "";
  try {
    const found = await filesOf(transfer);
    submit(found.files);
    if (!found.files.length) left = "The folder holds no videos.";
    else if (found.left) left = found.left === 1 ? "1 file of the folder is not a video and was left out." : `${found.left} files of the folder are not videos and were left out.`;
  } catch (error) {
    left = `The folder cannot be read: ${error.message || error}`;
  }
  at("left-out").textContent = left;
}
