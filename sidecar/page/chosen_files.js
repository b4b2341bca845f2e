// What was dropped on the page or chosen: files, and folders with all that is in them.

/** @typedef {{files: File[], left: number, folder: boolean}} Chosen left: files of folders that are not videos */

/**
 * Whether a file of a folder is sent: a folder holds other things too.
 * @param {File} file
 * @param {string[]} endings of videos, in lower case
 */
const looksLikeVideo = (file, endings) => file.type.startsWith("video/") || endings.some((ending) => file.name.toLowerCase().endsWith(ending));

/**
 * @param {DataTransfer} transfer
 * @param {string[]} endings
 * @returns {Promise<Chosen>}
 */
export async function droppedFiles(transfer, endings) {
  // The entries are there only until the event is over, so all are asked for before anything is awaited.
  const dropped = [...transfer.items].filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }));
  if (!dropped.some(({ entry }) => entry?.isDirectory)) return { files: [...transfer.files], left: 0, folder: false };
  /** @type {Chosen} */
  const found = { files: [], left: 0, folder: true };
  for (const { entry, file } of dropped) {
    if (entry?.isDirectory) await collect(/** @type {FileSystemDirectoryEntry} */ (entry), endings, found);
    else if (file) found.files.push(file);
  }
  return found;
}

/**
 * @param {FileSystemDirectoryEntry} folder
 * @param {string[]} endings
 * @param {Chosen} found
 */
async function collect(folder, endings, found) {
  /** @type {FileSystemEntry[]} */
  const entries = [];
  const reader = folder.createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((good, bad) => reader.readEntries(good, bad)); // a hundred at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  for (const entry of entries) {
    if (isHidden(entry.name, entry.isDirectory)) continue;
    if (entry.isDirectory) await collect(/** @type {FileSystemDirectoryEntry} */ (entry), endings, found);
    else keep(await new Promise((good, bad) => /** @type {FileSystemFileEntry} */ (entry).file(good, bad)), endings, found);
  }
}

/**
 * The files of a folder that was chosen, which a browser gives as one list.
 * @param {File[]} files
 * @param {string[]} endings
 * @returns {Chosen}
 */
export function filesOfFolder(files, endings) {
  /** @type {Chosen} */
  const found = { files: [], left: 0, folder: true };
  const inOrder = [...files].sort((a, b) => a.webkitRelativePath.localeCompare(b.webkitRelativePath, undefined, { numeric: true }));
  for (const file of inOrder) {
    const folders = file.webkitRelativePath.split("/").slice(1, -1); // the chosen one itself may be called as it likes
    if (!isHidden(file.name, false) && !folders.some((name) => isHidden(name, true))) keep(file, endings, found);
  }
  return found;
}

/**
 * Whether something is a recycle bin or its like, or hidden.
 * @param {string} name
 * @param {boolean} folder
 */
const isHidden = (name, folder) => (folder ? /^[.~@#$]/ : /^\./).test(name);

/**
 * @param {File} file
 * @param {string[]} endings
 * @param {Chosen} found
 */
function keep(file, endings, found) {
  if (looksLikeVideo(file, endings)) found.files.push(file);
  else found.left += 1;
}

/**
 * What is said of a folder: null if all of it is sent.
 * @param {Chosen} chosen
 */
export function leftOut({ files, left, folder }) {
  if (!folder) return null;
  if (!files.length) return "The folder holds no videos.";
  if (!left) return null;
  return left === 1 ? "1 file of the folder is not a video and was left out." : `${left} files of the folder are not videos and were left out.`;
}
