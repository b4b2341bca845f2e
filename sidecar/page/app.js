// The page put together from its parts.

import { Address } from "./address.js";
import { Announcer } from "./announcer.js";
import { Api } from "./api.js";
import { Health } from "./health.js";
import { JobBar } from "./job_bar.js";
import { JobList, jobListElements } from "./jobs.js";
import { keys } from "./keys.js";
import { Login } from "./login.js";
import { Pipelines } from "./pipelines.js";
import { Rejected } from "./rejected.js";
import { Search } from "./search.js";
import { Thumbnails } from "./thumbnails.js";
import { UploadForm } from "./upload_form.js";
import { Uploads } from "./uploads.js";
import { Viewer } from "./viewer.js";
import { Waiting } from "./waiting.js";

/**
 * An element of index.html.
 * @param {string} id
 * @returns {any}
 */
const at = (id) => document.getElementById(id);

const login = new Login();
const api = new Api((check) => login.ask(check));
const address = new Address();
const announcer = new Announcer(at("said"));
const say = announcer.say.bind(announcer);
const thumbnails = new Thumbnails(api);

const waiting = new Waiting(at("waiting"));
const viewer = new Viewer(at("viewer"), api, address, (job) => bar.update(job));
const bar = new JobBar(at("delete"), at("job-problem"), api, address, say);
const jobs = new JobList(jobListElements(), api, thumbnails, say, (page) => {
  waiting.show(page.waiting);
  const job = page.jobs.find(({ job_id: id }) => id === address.job);
  if (job) viewer.update(job);
});
const rejected = new Rejected(at("rejected"), api);
const health = new Health(at("health"), at("wrong"), api);
const pipelines = new Pipelines(at("pipeline"), at("unfit"), at("lacking"), api);
const uploads = new Uploads(at("uploads"), at("clear"), api, { say, done: () => jobs.poll.now(), changed: showUploading });
new UploadForm({
  drop: at("drop"), choose: at("choose"), chooseFolder: at("choose-folder"), files: at("files"), folder: at("folder"),
  pipeline: at("pipeline"), stride: at("stride"), exports: at("exports"), leftOut: at("left-out"),
}, api, uploads);
new Search(at("search"), at("found"), api, thumbnails, say);

/** @param {{n: number, sent: number, size: number}} sending */
function showUploading({ n, sent, size }) {
  const link = at("uploading");
  link.hidden = !n;
  link.textContent = `${n} uploading${size ? ` · ${Math.floor((100 * sent) / size)} %` : ""}`;
}

// One job, or all of them.

/** @type {string | null} */
let shown = null;

function showView() {
  const before = shown;
  if (address.job === before && document.body.dataset.view) return;
  shown = address.job;
  document.body.dataset.view = shown ? "job" : "list";
  jobs.choose(shown);
  bar.show(shown);
  if (shown) viewer.show(shown);
  else viewer.close();
  const focused = /** @type {HTMLElement} */ (document.activeElement);
  if (focused === document.body || !focused.checkVisibility()) focusView(before);
}

/**
 * Where what had the focus is not seen any more, it goes to what is.
 * @param {string | null} before the job that was shown
 */
function focusView(before) {
  if (shown) at("viewer").focus();
  else if (before) /** @type {HTMLElement | null} */ (document.querySelector(`.job[data-id="${before}"] .open`))?.focus();
}

address.on(showView);
at("skip").addEventListener("click", () => at(shown ? "viewer" : "jobs-title").focus());
at("keys").addEventListener("click", () => keys.help());
at("log-out").addEventListener("click", () => api.logOut());
at("fold").addEventListener("click", () => {
  const folded = document.body.classList.toggle("folded");
  at("fold").setAttribute("aria-expanded", String(!folded));
  at("fold").textContent = folded ? "Show jobs" : "Hide jobs";
});
at("curl").textContent = `curl -F file=@video.mp4 ${api.url("v1/video/submit")}`;

health.poll.now();
await api.begin();
at("log-out").hidden = api.token === null;
at("reads").hidden = api.session.rights === "submit";
jobs.poll.now();
rejected.poll.now();
pipelines.poll.now();
showView();
await uploads.begin();

export { address, viewer };
