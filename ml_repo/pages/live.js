// What a page does that is served by `ml-repo ui`: it follows the runs, and sends what a person asks for.
"use strict";
(() => {
const { make, reach } = MLR, site = new URL(".", document.currentScript.src), $ = (id) => document.getElementById(id), run = $("actions")?.dataset.run;

// --- following: one stream of events for all that is shown ------------------------------------------------------------------
const load = $("machine"), stream = new EventSource(new URL("events", site));
let due = null, asked = 0;
stream.onopen = () => { load.textContent = "live"; };
stream.onerror = () => { load.textContent = "not connected: is ml-repo ui still running?"; };
stream.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (event.load) load.textContent = `${event.load.running} running · processors ${Math.round(event.load.processors)} % · memory ${Math.round(event.load.memory)} %`;
  if (event.reload && !run) location.reload(); // its view is in the address
  else if (event.rows && MLR.update && (Object.keys(event.rows).length || event.removed.length || event.damage)) { MLR.update(event); look(); }
  if (run && (event.reload || event.rows?.[run])) follow();
  if (event.verifying) showVerifying(event.verifying[run], event.verified[run]);
};
/** Show the run as it is now: at once, and at most once a second. */
function follow() {
  if (due || document.querySelector("#live input:active, #live .uplot:active")) return; // somebody moves a slider or zooms
  due = setTimeout(async () => {
    due = null; asked = performance.now();
    const answer = await fetch(`${encodeURIComponent(run)}.live`);
    if (!answer.ok) return;
    const places = "input, button, a, [tabindex]", focused = [...$("live").querySelectorAll(places)].indexOf(document.activeElement), log = $("log"), is_at_end = !log || log.scrollTop + log.clientHeight > log.scrollHeight - 30;
    $("live").innerHTML = await answer.text(); // was cleaned on the server
    if (is_at_end && $("log")) $("log").scrollTop = $("log").scrollHeight;
    MLR.equip(); reach(); showActions();
    if (focused >= 0) $("live").querySelectorAll(places)[focused]?.focus({ preventScroll: true });
  }, Math.max(0, 1000 - (performance.now() - asked)));
}
if ($("log")) $("log").scrollTop = $("log").scrollHeight;
/** What can be done to the run as it is now. At its end, its notebook and what the record says of it are complete. */
let was = null;
async function showActions() {
  const { state, archived } = $("state").dataset, button = (act) => document.querySelector(`[data-act=${act}]`), archive = button("archive") ?? button("restore");
  button("stop").hidden = state !== "running"; button("resume").hidden = !["killed", "interrupted", "failed"].includes(state); button("verify").hidden = !["completed", "failed"].includes(state);
  archive.dataset.act = archived === undefined ? "archive" : "restore"; archive.textContent = archived === undefined ? "Archive" : "Restore";
  const has_ended = was === "running" && state !== was;
  was = state;
  if (!has_ended) return;
  const answer = await fetch(location.pathname);
  if (answer.ok) { $("rest").replaceWith(new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("rest")); reach(); }
}
if (run) showActions();

// --- what was tried and what was best comes after the table, since it reads all runs -----------------------------------------
let waiting = null, pause = 500;
async function look() {
  if (!$("overview") || waiting) return;
  waiting = setTimeout(async () => {
    waiting = null;
    const answer = await fetch(new URL("overview.html", site));
    if (answer.ok) { $("overview").innerHTML = await answer.text(); reach(); }
  }, pause);
  pause = 5000;
}
look();

// --- within JupyterLab: its extension opens what a page asks for -------------------------------------------------------------
if (window.parent !== window && $("open")?.dataset.path) {
  $("open").hidden = false;
  $("open").addEventListener("click", () => window.parent.postMessage({ mlRepoOpen: $("open").dataset.path }, location.origin));
}
const asked_for = decodeURIComponent(location.hash.slice(1));
document.querySelectorAll("details[data-notebook]").forEach((one) => { if (asked_for && (asked_for === one.dataset.notebook || asked_for.endsWith(`/${one.dataset.notebook}`) || one.dataset.notebook.endsWith(`/${asked_for}`))) { one.open = true; one.scrollIntoView(); } });

// --- asking -------------------------------------------------------------------------------------------------------------------
async function send(path, body, said) {
  said.textContent = "…";
  try {
    const answer = await fetch(new URL(path, site), { method: "POST", headers: { "X-ML-Repo": "1", "Content-Type": "application/json" }, body: JSON.stringify(body) }), found = await answer.json();
    said.textContent = found.error ?? found.said;
    said.classList.toggle("wrong", !!found.error);
    return found.error ? null : found.said;
  } catch { said.textContent = "The server does not answer: is ml-repo ui still running?"; said.classList.add("wrong"); return null; }
}
/** To run it again takes as long as the run: say since when that goes on, also to who opens the page meanwhile, and what came out. */
let clock = null;
function showVerifying(going, words) {
  const button = document.querySelector("[data-act=verify]"), said = $("said");
  if (!button || (!going && !clock)) return;
  clearInterval(clock); clock = null; $("clock")?.remove(); said.classList.remove("wrong");
  button.disabled = !!going;
  if (!going) { said.replaceChildren(`${words} `, make("a", { href: "" }, "Show what was compared")); follow(); return; }
  const begun = Date.now() - going.for_s * 1000, time = make("span", { id: "clock", class: "faint", "aria-hidden": "true" }), took = going.run_s ? ` The run took ${MLR.format(going.run_s, "duration_s")}.` : "";
  const tick = () => { time.textContent = ` ${MLR.format(Math.round((Date.now() - begun) / 1000), "duration_s").replace(".0 s", " s")} so far`; };
  said.textContent = `Being verified since ${new Date(begun).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}.${took}`;
  said.after(time); tick();
  clock = setInterval(tick, 1000);
}
document.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", async () => {
  const field = button.dataset.from ? $(button.dataset.from) : null;
  if (button.dataset.act === "verify") { // the stream tells the rest
    const answer = make("span");
    button.disabled = true;
    if (!await send(`act/${encodeURIComponent(run)}`, { action: "verify" }, answer)) { button.disabled = false; $("said").textContent = answer.textContent; }
    return;
  }
  if (await send(`act/${encodeURIComponent(run)}`, { action: button.dataset.act, text: field?.value ?? "" }, $("said"))) { if (field?.id === "tag") field.value = ""; follow(); }
}));
document.querySelectorAll("[data-from]").forEach((button) => $(button.dataset.from).addEventListener("keydown", (event) => { if (event.key === "Enter") button.click(); }));
$("live")?.addEventListener("click", async (event) => {
  const tag = event.target.dataset.untag;
  if (tag && await send(`act/${encodeURIComponent(run)}`, { action: "untag", text: tag }, $("said"))) follow();
});
document.querySelectorAll("form.launch").forEach((form) => form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = [...form.querySelectorAll("[data-default]")].filter((field) => field.value !== field.dataset.default), said = form.querySelector(".launched");
  const button = form.querySelector("[type=submit]");
  button.disabled = true; // a second click would start a second run
  const name = await send("launch", { notebook: form.dataset.notebook, experiment: form.dataset.experiment, note: form.querySelector(".why").value, folder: form.dataset.folder, values: Object.fromEntries(fields.map((field) => [field.name, field.value])) }, said);
  button.disabled = false;
  if (name) said.replaceChildren("Started: ", make("a", { href: new URL(`runs/${encodeURIComponent(name)}.html`, site) }, name));
}));
})();
