// Runs side by side: what differs in values, curves, code, notebooks and figures. What each run brings is in runs/<run>.js, loaded when it is asked for.
"use strict";
(() => {
const { make, format, formatSpread, chip, reach, chart, chartTools } = MLR, index = window.ML_REPO_RUNS, loaded = (window.ML_REPO_RUN ??= {}), packages = (window.ML_REPO_PACKAGES ??= {}), fixed = window.ML_REPO_FIXED;
const $ = (id) => document.getElementById(id), short = (id) => id.slice(id.lastIndexOf("-") + 1);
let ids = [], all = false, pair = [0, 1];

// --- loading: a script for each run, since a page that was opened from a file may not read other files ---------------------
const load = (file) => new Promise((done) => document.head.append(make("script", { src: file, onload: () => done(true), onerror: () => done(false) })));
async function fetchRuns() {
  const missing = [];
  await Promise.all(ids.filter((id) => !loaded[id]).map(async (id) => { if (fixed || !(await load(`runs/${encodeURIComponent(id)}.js`))) missing.push(id); }));
  ids = ids.filter((id) => loaded[id]);
  await Promise.all([...new Set(ids.map((id) => loaded[id].packages))].filter((name) => name && !packages[name]).map((name) => (fixed ? null : load(`data/packages-${name}.js`))));
  return missing;
}

// --- tables of values --------------------------------------------------------------------------------------------------------
const same = (values) => values.every((value) => JSON.stringify(value) === JSON.stringify(values[0]));
const text = (value) => (value === undefined ? "—" : value === null ? "none" : format(value));
/** Numbers that look alike are written whole. */
const texts = (values) => { const brief = values.map(text); return !same(values) && new Set(brief).size === 1 ? values.map(String) : brief; };
function valueTable(title, names, read, more = {}) {
  const lines = names.map((name) => [name, ids.map((id) => read(loaded[id], name))]).filter(([, values]) => all || !same(values));
  if (!lines.length) return null;
  const table = make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, more.first ?? "name"), ids.map((id, place) => make("th", { scope: "col", class: lines.some(([, values]) => typeof values[place] === "number") ? "id number" : "id" }, short(id))), (more.extra ?? []).map((one) => make("th", { scope: "col" }, one.title)))),
    make("tbody", {}, lines.map(([name, values]) => {
      const best = more.best?.(name, values) ?? NaN, shown = texts(values);
      return make("tr", { class: all && !same(values) ? "differs" : null }, make("th", { scope: "row" }, name),
        values.map((value, place) => make("td", { class: [typeof value === "number" ? "number" : "", value === best ? "best" : ""].join(" ").trim() || null }, shown[place])), (more.extra ?? []).map((one) => make("td", {}, one.cell(name, values))));
    })));
  return make("section", {}, make("h2", {}, title), more.note ? make("p", { class: "faint" }, more.note) : null, make("div", { class: "scroll" }, table));
}
const union = (read) => [...new Set(ids.flatMap((id) => Object.keys(read(loaded[id]) ?? {})))];

// --- seeds: the newest completed run of each seed, mean and deviation, and how sure a difference is ------------------------
const column = (key) => index.columns.findIndex((one) => one.key === key);
function seedsOf(id, metric) {
  const place = index.rows.findIndex((row) => row[0] === id), at = column(`metrics.${metric}`), [state, seed, started] = [column("state"), column("params.seed"), column("started")], found = new Map();
  if (place < 0 || at < 0) return found;
  const members = index.rows.filter((row, one) => index.repetitions[one] === index.repetitions[place] && row[state] === "completed" && typeof row[at] === "number");
  members.sort((a, b) => (a[started] < b[started] ? -1 : 1)).forEach((row) => found.set(seed < 0 ? row[0] : row[seed] ?? row[0], row[at]));
  return found;
}
const repetitionOf = (id) => index.repetitions[index.rows.findIndex((row) => row[0] === id)];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const variance = (values) => values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1);
function spread(values) {
  const list = [...values.values()];
  if (list.length < 2) return list.length ? `${format(list[0])} (one seed)` : "";
  return `${formatSpread(mean(list), Math.sqrt(variance(list)))}, ${list.length} seeds`;
}
/** Student's interval of 95 % for the difference of two means: in pairs where both have the same seeds, by Welch's approximation otherwise. */
function judge(one, other) {
  const a = [...one.values()], b = [...other.values()];
  if (a.length < 2 || b.length < 2) return "cannot be told: two seeds of each are needed, better three";
  const paired = a.length === b.length && [...one.keys()].every((seed) => other.has(seed));
  let error, freedom;
  if (paired) { error = Math.sqrt(variance([...one.keys()].map((seed) => other.get(seed) - one.get(seed))) / a.length); freedom = a.length - 1; } else {
    const parts = [[variance(a) / a.length, a.length - 1], [variance(b) / b.length, b.length - 1]], total = parts[0][0] + parts[1][0];
    error = Math.sqrt(total); freedom = total ? total ** 2 / parts.reduce((sum, [part, count]) => sum + part ** 2 / count, 0) : 1;
  }
  if (error <= 1e-9 * Math.max(...a.concat(b).map(Math.abs))) return "cannot be told: the seeds show no spread";
  const half = index.student[Math.max(1, Math.min(index.student.length - 1, Math.floor(freedom)))] * error, difference = mean(b) - mean(a), signed = (value) => (value < 0 ? "" : "+") + value.toPrecision(3);
  return `${signed(difference)} (${signed(difference - half)} to ${signed(difference + half)}), ${difference - half <= 0 && difference + half >= 0 ? "within the noise" : "larger than the noise of these two alone"}; ${paired ? "seeds in pairs" : "seeds not in pairs"}`;
}
function metricsSection() {
  const names = union((run) => run.metrics), directions = Object.assign({}, ...ids.map((id) => loaded[id].directions));
  const best = (name, values) => {
    const numbers = values.filter((value) => typeof value === "number");
    return directions[name] && numbers.length > 1 && !same(values) ? Math[directions[name] === "higher" ? "max" : "min"](...numbers) : NaN; // equals none
  };
  const extra = [{ title: "better is", cell: (name) => directions[name] ?? "" }];
  if (ids.length === 2) extra.push({ title: "difference", cell: (_, [a, b]) => (typeof a === "number" && typeof b === "number" ? (b - a).toPrecision(3) : "") });
  const section = valueTable("Metrics", names, (run, name) => run.metrics[name], { first: "metric", best, extra, note: "Last values of each run; ★ marks the best." });
  const lines = names.filter((name) => directions[name]).map((name) => [name, ids.map((id) => seedsOf(id, name))]).filter(([, groups]) => groups.some((group) => group.size > 1));
  if (!lines.length || new Set(ids.map(repetitionOf)).size < 2) return section;
  return make("div", {}, section, make("section", {}, make("h2", {}, "Over the seeds"), make("p", { class: "faint" }, "Mean ± standard deviation of all completed runs that differ from each run in the seed only. Differences are from the first run to the others, each with 95 % confidence by itself. Who chose a setting as the best of several asks ", make("code", {}, "ml-repo compare"), ", which allows for the choice, and calls fewer differences larger than the noise."),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "metric"), ids.map((id) => make("th", { scope: "col", class: "id" }, short(id))), ids.slice(1).map((id) => make("th", { scope: "col" }, `${short(ids[0])} → ${short(id)}`)))),
      make("tbody", {}, lines.map(([name, groups]) => make("tr", {}, make("th", { scope: "row" }, name), groups.map((group) => make("td", { class: "number" }, spread(group))), groups.slice(1).map((group, place) => make("td", { class: "wide" }, repetitionOf(ids[place + 1]) === repetitionOf(ids[0]) ? "the same setting" : judge(groups[0], group))))))))));
}

// --- learning curves -----------------------------------------------------------------------------------------------------------
function curvesSection() {
  const series = (name) => ids.map((id, place) => ({ label: short(id), style: place, points: loaded[id].curves[name] ?? [] }));
  const draw = () => union((run) => run.curves).map((name) => chart(name, series(name))).filter(Boolean), box = make("div", { class: "charts" }, draw());
  if (!box.children.length) return null;
  return make("section", {}, make("h2", {}, "Learning curves"), chartTools(() => box.replaceChildren(...draw())), box);
}

// --- texts: which lines differ ----------------------------------------------------------------------------------------------
/** Pairs of equal places in two lists: the longest common subsequence, after the equal beginning and end. */
function align(a, b) {
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const left = a.slice(start, a.length - end), right = b.slice(start, b.length - end), pairs = Array.from({ length: start }, (_, place) => [place, place]);
  if (left.length * right.length <= 4e6) {
    const width = right.length + 1, table = new Uint32Array((left.length + 1) * width);
    for (let i = left.length - 1; i >= 0; i -= 1) for (let j = right.length - 1; j >= 0; j -= 1) table[i * width + j] = left[i] === right[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    for (let i = 0, j = 0; i < left.length && j < right.length;) if (left[i] === right[j]) { pairs.push([start + i, start + j]); i += 1; j += 1; } else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i += 1; else j += 1;
  }
  for (let place = end; place > 0; place -= 1) pairs.push([a.length - place, b.length - place]);
  return pairs;
}
function diffLines(one, other) {
  const a = one.split("\n"), b = other.split("\n"), box = make("pre", { class: "code" });
  let i = 0, j = 0, gap = false;
  const pairs = align(a, b), changed = new Set();
  pairs.concat([[a.length, b.length]]).reduce(([lastI, lastJ], [atI, atJ]) => { if (atI > lastI + 1 || atJ > lastJ + 1) for (let near = -2; near <= 2; near += 1) { changed.add(atI + Math.min(near, 1)); changed.add(lastI + Math.max(near, -1)); } return [atI, atJ]; }, [-1, -1]);
  for (const [atI, atJ] of pairs.concat([[a.length, b.length]])) {
    for (; i < atI; i += 1) box.append(make("del", {}, `- ${a[i]}`));
    for (; j < atJ; j += 1) box.append(make("ins", {}, `+ ${b[j]}`));
    if (atI < a.length) { if (changed.has(atI)) { box.append(make("span", {}, `  ${a[atI]}\n`)); gap = false; } else if (!gap) { box.append(make("span", { class: "faint" }, "  …\n")); gap = true; } }
    i = atI + 1; j = atJ + 1;
  }
  return box;
}

// --- two of the runs: code, notebook, figures -------------------------------------------------------------------------------
const fill = (html) => { const box = make("div"); box.innerHTML = html; return box; }; // was cleaned when the site was built
const side = (id, ...children) => make("div", { class: "side", "data-run": short(id) }, ...children);
function pairCells(one, other) {
  const key = (cell) => `${cell.kind}\n${cell.source}`, found = [];
  let i = 0, j = 0;
  for (const [atI, atJ] of align(one.map(key), other.map(key)).concat([[one.length, other.length]])) {
    const left = one.slice(i, atI), right = other.slice(j, atJ);
    for (let place = 0; place < Math.max(left.length, right.length); place += 1) {
      if (left[place] && right[place] && left[place].kind !== right[place].kind) found.push([left[place], null], [null, right[place]]); else found.push([left[place] ?? null, right[place] ?? null]);
    }
    if (atI < one.length) found.push([one[atI], other[atJ]]);
    i = atI + 1; j = atJ + 1;
  }
  return found;
}
/** Messages of libraries hold a clock, so they differ each time. */
const tell = (cell) => (cell ? cell.outputs.join("").replace(/<details class="fold messages">.*?<\/details>/gs, "") : "");
const figuresOf = (cell) => (cell ? [...fill(cell.outputs.join("")).querySelectorAll("img")] : []);
/** A page of comparisons lies one folder higher than the pages of runs. */
const place = (box) => { box.querySelectorAll("img").forEach((image) => { image.setAttribute("src", image.getAttribute("src").replace(/^\.\.\/figures\//, "figures/")); image.loading = "eager"; }); return box; };
function notebookSection(a, b) {
  const parts = [];
  for (const [one, other] of pairCells(loaded[a].cells, loaded[b].cells)) {
    const outputs = [one, other].map(tell), is_same = one && other && one.source === other.source;
    if (!all && is_same && outputs[0] === outputs[1]) continue;
    const number = one && other ? (one.number === other.number ? `cell ${one.number}` : `cell ${one.number} → ${other.number}`) : one ? `cell ${one.number}, only in ${short(a)}` : `cell ${other.number}, only in ${short(b)}`;
    const cell = make("div", { class: "pair" }, make("h3", {}, number + (is_same ? ", outputs differ" : one && other ? ", source differs" : "")));
    if (one && other && !is_same) { const box = diffLines(one.source, other.source); box.style.gridColumn = "1 / -1"; cell.append(box); }
    const shows = (which) => (which && (is_same ? (all ? which.html : "") : one && other ? "" : which.html) + which.outputs.join("")) || "";
    if (shows(one) || shows(other)) cell.append(side(a, place(fill(shows(one)))), side(b, place(fill(shows(other)))));
    parts.push(cell);
  }
  return make("section", {}, make("h2", {}, "Notebooks"), parts.length ? parts : make("p", {}, loaded[a].cells.length && loaded[b].cells.length ? "All cells and what they have shown are the same." : "A notebook is missing."));
}
function figuresSection(a, b) {
  const parts = pairCells(loaded[a].cells, loaded[b].cells).flatMap(([one, other]) => {
    const [left, right] = [figuresOf(one), figuresOf(other)];
    return Array.from({ length: Math.max(left.length, right.length) }, (_, at) => [left[at], right[at], (one ?? other).number]);
  }).filter(([left, right]) => all || left?.getAttribute("src") !== right?.getAttribute("src"));
  if (!parts.length) return null;
  return make("section", {}, make("h2", {}, "Figures"), parts.map(([left, right, number]) => make("div", { class: "pair" }, make("h3", {}, `of cell ${number}`), place(side(a, left ?? "none")), place(side(b, right ?? "none")))));
}
function codeSection(a, b) {
  const [one, other] = [loaded[a].patch ?? "", loaded[b].patch ?? ""], commits = [a, b].map((id) => loaded[id].facts.code?.commit), exact = window.ML_REPO_CODE?.[`${a} ${b}`], parts = [];
  if (exact) for (const file of exact) parts.push(file.note ? make("p", { class: "faint" }, file.note) : file.diff == null ? null : make("details", { class: "fold", open: true }, make("summary", {}, file.name), colorDiff(file.diff)));
  else if (commits[0] && commits[1] && commits[0] !== commits[1]) parts.push(make("p", {}, "The commits differ. In a clone of the repository: "), make("p", {}, make("code", {}, `git diff ${commits[0].slice(0, 12)} ${commits[1].slice(0, 12)}`), " or ", make("code", {}, `ml-repo diff ${a} ${b}`)));
  if (one !== other) parts.push(make("p", {}, "Changes that were not committed:"), diffLines(one, other)); else if (one && all) parts.push(make("p", {}, "Both had the same changes that were not committed:"), colorDiff(one));
  return parts.length ? make("section", {}, make("h2", {}, "Code"), parts) : null;
}
const colorDiff = (patch) => make("pre", { class: "code" }, patch.split("\n").map((line) => (/^\+(?!\+\+)/.test(line) ? make("ins", {}, line) : /^-(?!--)/.test(line) ? make("del", {}, line) : `${line}\n`)));

// --- the page -----------------------------------------------------------------------------------------------------------------
function choose() {
  const option = (row) => make("option", { value: row[0] }, `${row[0]}${row[column("note")] ? ` – ${row[column("note")]}` : ""}`), pick = ["a", "b"].map((id, place) => { const select = make("select", { id }, index.rows.map(option)); select.selectedIndex = Math.min(place, index.rows.length - 1); return select; });
  if (ids.length === 1) pick[0].value = ids[0];
  return make("section", {}, make("p", {}, "Choose two runs, or tick some in ", make("a", { href: "index.html" }, "the table of all runs"), "."),
    make("p", {}, make("label", { for: "a" }, "First "), pick[0]), make("p", {}, make("label", { for: "b" }, "Second "), pick[1]), make("button", { type: "button", class: "main", onclick: () => { location.hash = `runs=${pick.map((one) => encodeURIComponent(one.value)).join(",")}`; } }, "Compare"));
}
function heads() {
  const has_why = ids.some((id) => loaded[id].why);
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ["run", "experiment", "state", "verified", "started (UTC)", "duration", "note", has_why ? "why it ended" : null].filter(Boolean).map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ids.map((id, at) => {
    const run = loaded[id];
    return make("tr", {}, make("th", { scope: "row", class: "id" }, make("span", { class: `key s${at % 6}`, "aria-hidden": "true" }, "●"), fixed ? id : make("a", { href: `runs/${encodeURIComponent(id)}.html` }, id)), make("td", {}, run.experiment), make("td", {}, run.state.split(", ").map(chip)), make("td", {}, run.verified ? chip(run.verified) : "not yet"), make("td", {}, format(run.started, "started")), make("td", {}, format(run.duration_s, "duration_s")), make("td", {}, run.note), has_why ? make("td", { class: "wide" }, run.why ?? "") : null);
  }))));
}
function pickers() {
  if (ids.length < 3) return null;
  const selects = [0, 1].map((at) => { const select = make("select", { "aria-label": at ? "second run" : "first run", onchange: () => { pair[at] = select.selectedIndex; show(); } }, ids.map((id) => make("option", {}, short(id)))); select.selectedIndex = pair[at]; return select; });
  return make("p", { class: "note" }, "Below, two of the runs: ", selects[0], " and ", selects[1]);
}
function show() {
  const [a, b] = pair.map((at) => ids[Math.min(at, ids.length - 1)]), facts = (section) => [(run, name) => run.facts[section]?.[name], union((run) => run.facts[section])];
  const sections = [heads(), valueTable("Parameters", union((run) => run.parameters), (run, name) => run.parameters[name], { first: "parameter" }), metricsSection(), curvesSection()];
  for (const [section, title] of [["results", "Results"], ["data", "Data"], ["code", "Code and packages"]]) { const [read, names] = facts(section); sections.push(valueTable(title, names, read)); }
  if (new Set(ids.map((id) => loaded[id].packages)).size > 1 && ids.every((id) => packages[loaded[id].packages])) sections.push(valueTable("Versions of packages", union((run) => packages[run.packages]), (run, name) => packages[run.packages][name], { first: "package" }));
  { const [read, names] = facts("machine"); sections.push(valueTable("Machine", names, read)); }
  if (ids.length > 1) sections.push(pickers(), codeSection(a, b), figuresSection(a, b), notebookSection(a, b));
  $("result").replaceChildren(...sections.filter(Boolean));
  $("title").textContent = ids.length > 1 ? `Compare ${ids.map(short).join(", ")}` : "Compare runs";
  document.title = $("title").textContent;
  reach();
}
async function begin() {
  const given = new URLSearchParams(location.hash.slice(1));
  ids = fixed ?? (given.get("runs") ?? "").split(",").map(decodeURIComponent).filter(Boolean);
  ids = [...new Set(ids)]; all = $("all").checked;
  const missing = await fetchRuns();
  $("missing").replaceChildren(...missing.map((id) => make("p", { class: "note" }, `There is no run ${id} on this site.`)));
  $("options").hidden = ids.length < 2;
  if (ids.length > 1) show(); else $("result").replaceChildren(choose());
  document.documentElement.dataset.ready = "1";
}
$("all").addEventListener("change", () => { all = $("all").checked; show(); });
addEventListener("hashchange", begin);
begin();
})();
