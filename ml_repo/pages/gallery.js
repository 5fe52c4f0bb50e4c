// The table of all runs and the two plots beside it. Filters, order, columns and ticks are in the address, so a view can be sent to somebody.
"use strict";
(() => {
const { make, format, formatSpread, chip, reach } = MLR, data = window.ML_REPO_RUNS, $ = (id) => document.getElementById(id);
const PAGE = 100, AXES = 12, SLICE = 800;
/** The columns at first. In a sidebar there is room for one beside the name: what the runs are judged by. */
const firstColumns = data.metric && matchMedia("(max-width: 21rem)").matches ? [...new Set(["run", data.metric, ...data.shown])] : data.shown;
const columns = data.columns.map((column, index) => ({ ...column, index }));
const named = new Map(columns.map((column) => [column.key, column]));
const runs = data.rows.map((cells, index) => ({ cells, id: cells[0], repetition: data.repetitions[index] })), byId = new Map(runs.map((run) => [run.id, run]));

// --- what is shown: read from the address, written back to it -------------------------------------------------------------
const state = {};
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), names = (given.get("columns") ?? "").split(",").filter((key) => named.has(key));
  Object.assign(state, {
    search: given.get("search") ?? "", sort: named.has(given.get("sort")) ? given.get("sort") : "started", up: given.get("order") === "up", columns: names.length ? names : firstColumns, pins: new Set((given.get("pins") ?? "").split(",").filter((key) => named.has(key))),
    filters: Object.fromEntries([...given].filter(([key]) => key.startsWith("f.") && named.has(key.slice(2))).map(([key, text]) => [key.slice(2), text])),
    group: given.has("seeds"), ticked: new Set((given.get("ticked") ?? "").split(",").filter(Boolean)), view: given.get("plot") ?? "lines",
    x: given.get("x") ?? "", y: given.get("y") ?? "", color: given.get("color") ?? "", base: given.get("base") ?? "", page: Math.max(0, (parseInt(given.get("page"), 10) || 1) - 1),
  });
}
function writeAddress() {
  const kept = new URLSearchParams(), put = (name, value, usual) => { if (value && value !== usual) kept.set(name, value); };
  put("search", state.search); put("sort", state.sort, "started"); put("order", state.up ? "up" : ""); put("columns", state.columns.join(","), firstColumns.join(",")); put("pins", [...state.pins].join(","));
  for (const [key, text] of Object.entries(state.filters)) put(`f.${key}`, text);
  put("seeds", state.group ? "1" : ""); put("ticked", [...state.ticked].join(",")); put("plot", state.view, "lines"); put("x", state.x); put("y", state.y); put("color", state.color); put("base", state.base);
  put("page", state.page ? String(state.page + 1) : "");
  history.replaceState(null, "", `#${kept}`);
}

// --- filter, group, sort ---------------------------------------------------------------------------------------------------
/** Understand a filter: "> 0.9", "0.1..0.5", "= adam | sgd", or a part of a text. */
function makeTest(text, column) {
  const range = text.match(/^\s*(\S+?)\s*\.\.\s*(\S+)\s*$/), compared = text.match(/^\s*(<=|>=|!=|<|>|=)\s*(.*?)\s*$/);
  if (range && !isNaN(range[1]) && !isNaN(range[2])) return (value) => typeof value === "number" && value >= +range[1] && value <= +range[2];
  if (compared && compared[2] !== "") {
    const [, how, right] = compared, number = Number(right);
    if (how === "=" || how === "!=") {
      const wanted = right.split("|").map((one) => one.trim());
      return (value) => (how === "=") === wanted.some((one) => (typeof value === "number" && !isNaN(one) ? value === +one : String(value ?? "") === one));
    }
    if (!isNaN(number)) return { "<": (v) => typeof v === "number" && v < number, ">": (v) => typeof v === "number" && v > number, "<=": (v) => typeof v === "number" && v <= number, ">=": (v) => typeof v === "number" && v >= number }[how];
    return { "<": (v) => String(v ?? "") < right, ">": (v) => String(v ?? "") > right, "<=": (v) => String(v ?? "") <= right, ">=": (v) => String(v ?? "") >= right }[how];
  }
  const part = text.trim().toLowerCase();
  return (value) => format(value, column.key).toLowerCase().includes(part) || String(value ?? "").toLowerCase().includes(part);
}
function filterRuns() {
  const tests = Object.entries(state.filters).filter(([, text]) => text.trim()).map(([key, text]) => [named.get(key).index, makeTest(text, named.get(key))]);
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  return runs.filter((run) => tests.every(([index, test]) => test(run.cells[index])) && (!words.length || words.every((word) => (run.text ??= run.cells.join(" ").toLowerCase()).includes(word))));
}
/** One row for runs that differ in the seed only: mean and standard deviation over the newest completed run of each seed. */
function groupRuns(found) {
  const groups = new Map(), seed = named.get("params.seed")?.index, at = named.get("state").index, started = named.get("started").index;
  for (const run of found) if (groups.has(run.repetition)) groups.get(run.repetition).push(run); else groups.set(run.repetition, [run]);
  return [...groups.values()].map((members) => {
    const bySeed = new Map();
    for (const run of members.filter((one) => one.cells[at] === "completed").sort((a, b) => (a.cells[started] < b.cells[started] ? -1 : 1))) bySeed.set(seed == null ? run.id : run.cells[seed] ?? run.id, run);
    const counted = [...bySeed.values()], row = { id: members[0].id, ids: members.map((one) => one.id), n: counted.length, began: began(counted.length ? members.filter((one) => one.cells[at] === "completed") : members), cells: [...members[0].cells], spread: {} };
    for (const column of columns.filter((one) => one.kind === "metric" || one.key === "duration_s")) {
      const values = counted.map((run) => run.cells[column.index]).filter((value) => typeof value === "number");
      const mean = values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
      row.cells[column.index] = mean;
      if (values.length > 1) row.spread[column.index] = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
    }
    for (const key of ["state", "verified", "launched_by"]) {
      const words = [...new Set(members.map((run) => run.cells[named.get(key).index] ?? ""))];
      row.cells[named.get(key).index] = words.length === 1 ? words[0] : words.filter(Boolean).join(", ");
    }
    if (seed != null) row.cells[seed] = counted.map((run) => run.cells[seed]).sort((a, b) => a - b).join(" ");
    return row;
  });
}
/** The id of a run without its time, which has a column of its own; whole where another run would look alike. */
const brief = (id) => id.replace(/-\d{8}T\d{6}Z-/, "-"), alike = new Map();
for (const run of runs) alike.set(brief(run.id), (alike.get(brief(run.id)) ?? 0) + 1);
const shorten = (id) => (alike.get(brief(id)) > 1 ? id : brief(id));
/** When the first of some runs began. Of equal results the earlier is the better one, as everywhere. */
const began = (some) => some.map((run) => `${run.cells[named.get("started").index]} ${run.id}`).sort()[0];
function sortRows(rows) {
  const { index, kind } = named.get(state.sort), tie = (row) => row.began ?? began([row]), sign = state.up ? 1 : -1, rank = (value) => (value == null || value === "" ? 2 : typeof value === "number" ? 0 : 1);
  return rows.sort((one, other) => {
    const a = one.cells[index], b = other.cells[index];
    return rank(a) - rank(b) || (a === b || a == null ? (kind === "metric" ? (tie(one) < tie(other) ? -1 : 1) : 0) : (a < b ? -1 : 1) * sign);
  });
}

// --- the table -------------------------------------------------------------------------------------------------------------
let rows = [];
/** The columns from left to right: those that are pinned follow the name of the run. */
const isPinned = (key) => key === "run" || state.pins.has(key);
const listShown = () => (state.pins.size ? [...state.columns].sort((a, b) => (b === "run") - (a === "run") || state.pins.has(b) - state.pins.has(a)) : state.columns);
const hold = (key, words = "") => [words, isPinned(key) ? "pin" : ""].filter(Boolean).join(" ") || null;
function pinColumn(key, wanted) {
  if (wanted) state.pins.add(key); else state.pins.delete(key);
  if (wanted && !state.columns.includes(key)) state.columns = [...state.columns, key];
}
/** Let pinned columns stay at the left while the others scroll, as many as leave room for these. */
function settle() {
  if (!state.pins.size) return; // the style sheet places the first one
  const table = $("head").parentElement, heads = [...table.rows[0].querySelectorAll(".pin")], room = table.parentElement.clientWidth * 0.7;
  let left = table.querySelector(".tick").offsetWidth;
  const places = heads.map((head, index) => {
    const place = left;
    left += head.offsetWidth;
    return index === 0 || left <= room ? `${place}px` : "auto";
  });
  const last = places.findLastIndex((place) => place !== "auto");
  for (const row of table.rows) row.querySelectorAll(".pin").forEach((cell, index) => { cell.style.left = places[index]; cell.classList.toggle("edge", index === last); });
}
/** Put a column where another one is, and pin it where that one is pinned; the address keeps the order. */
function moveColumn(key, goal) {
  if (!state.columns.includes(key) || key === goal) return;
  if (key !== "run" && state.pins.size) pinColumn(key, isPinned(goal));
  const back = state.columns.indexOf(key) < state.columns.indexOf(goal), rest = state.columns.filter((one) => one !== key);
  rest.splice(rest.indexOf(goal) + back, 0, key);
  state.columns = rest;
  refresh(true);
}
function showHead() {
  const sorts = listShown().map((key) => {
    const column = named.get(key), active = state.sort === key;
    return make("th", { scope: "col", draggable: "true", ondragstart: (event) => event.dataTransfer.setData("text/plain", key), ondragover: (event) => event.preventDefault(), ondrop: (event) => { event.preventDefault(); moveColumn(event.dataTransfer.getData("text/plain"), key); }, class: hold(key, column.numeric ? "number" : ""), "aria-sort": active ? (state.up ? "ascending" : "descending") : "none", title: column.direction ? `${column.direction} is better` : key === "started" ? "in UTC" : null },
      make("button", { type: "button", id: `sort-${key}`, onclick: () => {
        if (active) state.up = !state.up; else { state.sort = key; state.up = column.kind === "metric" ? column.direction === "lower" : key !== "started"; }
        state.page = 0; refresh(true); $(`sort-${key}`)?.focus();
      } }, column.label, make("span", { "aria-hidden": "true" }, active ? (state.up ? " ▲" : " ▼") : "")));
  });
  const filters = listShown().map((key) => {
    const column = named.get(key), input = make("input", { type: "text", size: 6, value: state.filters[key] ?? "", "aria-label": `Filter ${column.label}`, placeholder: column.numeric ? "> 0.9" : "filter", "data-filter": key });
    input.addEventListener("input", () => { if (input.value) state.filters[key] = input.value; else delete state.filters[key]; state.page = 0; refresh(); });
    return make("td", { class: hold(key) }, input);
  });
  $("head").replaceChildren(make("tr", {}, make("th", { scope: "col", class: "tick" }, make("span", { class: "hidden" }, "Compare")), state.group ? make("th", { scope: "col", class: "number" }, "n") : null, sorts), make("tr", {}, make("td", { class: "tick" }), state.group ? make("td") : null, filters));
}
function showCell(row, key) {
  const column = named.get(key), value = row.cells[column.index];
  if (key === "run") {
    const link = make("a", { href: `runs/${encodeURIComponent(row.id)}.html`, class: "id", title: row.id }, shorten(row.id));
    return make("th", { scope: "row", class: "pin" }, link, row.ids?.length > 1 ? ` and ${row.ids.length - 1} more` : null);
  }
  if (key === "state") {
    const by_hand = String(row.cells[named.get("launched_by").index] ?? "").split(", ").includes("interactive"), words = String(value ?? "").split(", ");
    return make("td", { class: hold(key) }, (by_hand ? [...words.filter((word) => word !== "running"), "interactive"] : words).map((word) => chip(word)));
  }
  if (key === "verified" && value) return make("td", { class: hold(key) }, String(value).split(", ").map((word) => chip(word)));
  const spread = row.spread?.[column.index], text = spread == null ? format(value, key) : `${formatSpread(value, spread)}${key === "duration_s" ? " s" : ""}`;
  return make("td", { class: hold(key, column.numeric ? "number" : ""), title: text.length > 40 ? text : null }, text, compareToBase(row, column));
}
/** How much better or worse than the baseline a metric is. */
function compareToBase(row, column) {
  const base = byId.get(state.base)?.cells[column.index], value = row.cells[column.index];
  if (column.kind !== "metric" || row.id === state.base || typeof base !== "number" || typeof value !== "number") return null;
  const difference = value - base, is_better = column.direction && difference ? (difference > 0) === (column.direction === "higher") : null;
  return make("span", { class: `delta ${is_better === null ? "" : is_better ? "better" : "worse"}` }, ` ${difference < 0 ? "−" : "+"}${+Math.abs(difference).toPrecision(3)}`);
}
function showRows() {
  const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
  state.page = Math.min(state.page, last);
  const part = rows.slice(state.page * PAGE, (state.page + 1) * PAGE), shown = listShown();
  $("body").replaceChildren(...part.map((row) => {
    const tick = make("input", { type: "checkbox", "aria-label": `Compare ${row.id}`, title: "Enter compares the runs that are ticked", onkeydown: ({ key }) => { if (key === "Enter") $("compare").click(); }, onchange: () => { if (tick.checked) state.ticked.add(row.id); else state.ticked.delete(row.id); tick.closest("tr").classList.toggle("ticked", tick.checked); showTicks(); writeAddress(); } });
    tick.checked = state.ticked.has(row.id);
    const words = [named.get("state") && String(row.cells[named.get("state").index] ?? "").split(",")[0], tick.checked ? "ticked" : "", row.id === state.base ? "base" : ""];
    return make("tr", { class: words.filter(Boolean).join(" ") || null, onmouseenter: () => light(row), onmouseleave: () => light(null), onfocusin: () => light(row) }, make("td", { class: "tick" }, tick), state.group ? make("td", { class: "number" }, String(row.n)) : null, shown.map((key) => showCell(row, key)));
  }));
  settle();
  const all = state.group ? `${rows.length.toLocaleString("en")} settings` : `${rows.length.toLocaleString("en")} of ${runs.length.toLocaleString("en")} runs`;
  $("status").textContent = rows.length > PAGE ? `${all}; ${state.page * PAGE + 1} to ${Math.min(rows.length, (state.page + 1) * PAGE)} are in the table` : all;
  $("pager").hidden = last === 0; $("back").disabled = state.page === 0; $("next").disabled = state.page === last;
  $("place").textContent = `page ${state.page + 1} of ${last + 1}`;
}
function showTicks() {
  const link = $("compare"), count = state.ticked.size;
  link.textContent = count > 1 ? `Compare ${count} runs` : "Tick two runs to compare";
  const base = $("base"), one = count === 1 ? [...state.ticked][0] : "";
  base.textContent = one && one !== state.base ? "Take as baseline" : state.base ? "No baseline" : "Tick one as baseline";
  base.disabled = !state.base && !one;
  if (count > 1) link.href = `compare.html#runs=${[...state.ticked].map(encodeURIComponent).join(",")}`; else link.removeAttribute("href");
}
function showColumns() {
  $("columns").replaceChildren(...[["fact", "About the run"], ["param", "Parameters"], ["metric", "Metrics"]].map(([kind, title]) => make("fieldset", {}, make("legend", {}, title),
    columns.filter((column) => column.kind === kind).map((column) => {
      const box = make("input", { type: "checkbox", id: `column-${column.key}`, onchange: () => {
        state.columns = box.checked ? [...state.columns, column.key] : state.columns.filter((key) => key !== column.key);
        state.pins.delete(column.key);
        refresh(true); $(`column-${column.key}`).focus();
      } });
      box.checked = state.columns.includes(column.key);
      const is_held = state.pins.has(column.key), press = make("button", { type: "button", id: `pin-${column.key}`, "aria-pressed": String(is_held), "aria-label": `Pin ${column.label}`, title: "Stays at the left while the others scroll", onclick: () => {
        pinColumn(column.key, !is_held); refresh(true); $(`pin-${column.key}`).focus();
      } }, is_held ? "pinned" : "pin");
      return make("div", { class: "choice" }, make("label", {}, box, ` ${column.label}`), column.key === "run" ? null : press);
    }))));
}

// --- plots: parallel lines or points, one for each row; a range that is drawn on an axis becomes a filter ------------------
const canvas = $("canvas"), front = $("front");
let ink = {}, drawn = 0, axes = [], places = [];
const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [200, 190, 30]], night = [[150, 90, 220], [90, 140, 230], [60, 180, 175], [120, 220, 120], [253, 231, 37]];
const shade = (share, alpha = 1) => {
  const list = document.documentElement.dataset.theme === "dark" ? night : stops, at = Math.min(share * 4, 3.999), low = list[Math.floor(at)], high = list[Math.floor(at) + 1], part = at % 1;
  return `rgba(${low.map((value, index) => Math.round(value + (high[index] - value) * part)).join(",")},${alpha})`;
};
const scales = new Map();
/** Where a value lies on an axis, 0 to 1; logarithmic where the values span more than two powers of ten. */
function makeScale(column) {
  if (scales.has(column.key)) return scales.get(column.key);
  const values = runs.map((run) => run.cells[column.index]).filter((value) => value != null && value !== ""), numbers = values.filter((value) => typeof value === "number");
  let scale;
  if (column.numeric && numbers.length) {
    let low = Infinity, high = -Infinity;
    for (const value of numbers) { low = Math.min(low, value); high = Math.max(high, value); }
    const logs = low > 0 && high / low >= (column.kind === "param" ? 10 : 100), bend = logs ? Math.log10 : (value) => value, span = bend(high) - bend(low) || 1;
    const ticks = logs ? Array.from({ length: 40 }, (_, index) => 10 ** (index - 20)).filter((value) => value >= low * 0.999 && value <= high * 1.001) : [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
    scale = { at: (value) => (typeof value === "number" ? (bend(value) - bend(low)) / span : null), value: (share) => (logs ? 10 ** (bend(low) + share * span) : low + share * span), ticks: ticks.length > 1 ? ticks : [low, high], numeric: true, logs, distinct: low < high };
  } else {
    const words = [...new Set(values.map(String))].sort();
    scale = { at: (value) => (value == null || value === "" ? null : words.indexOf(String(value)) / Math.max(1, words.length - 1)), ticks: words, words, numeric: false, distinct: words.length > 1 && words.length <= 20 };
  }
  scales.set(column.key, scale);
  return scale;
}
const rankOf = (column) => ["experiment"].includes(column.key) ? 0 : { param: 1, metric: 2, fact: 3 }[column.kind];
const plottable = () => columns.filter((column) => (column.kind !== "fact" || ["duration_s", "experiment"].includes(column.key)) && makeScale(column).distinct).sort((a, b) => rankOf(a) - rankOf(b));
function chooseColor() {
  const metrics = columns.filter((column) => column.kind === "metric" && makeScale(column).distinct);
  return named.get(state.color) ?? metrics.find((column) => column.key === data.metric) ?? metrics[0] ?? plottable()[0];
}
function fillSelects() {
  const option = (column) => make("option", { value: column.key }, column.label), list = plottable();
  for (const [id, fallback] of [["x", list.find((column) => column.kind === "param" && column.numeric && column.key !== "params.seed") ?? list[0]], ["y", chooseColor()], ["color", chooseColor()]]) {
    $(id).replaceChildren(...list.map(option));
    $(id).value = state[id] || fallback?.key || "";
  }
}
function layOut() {
  const style = getComputedStyle(document.documentElement);
  ink = { text: style.getPropertyValue("--faint"), line: style.getPropertyValue("--line"), strong: style.getPropertyValue("--text"), page: style.getPropertyValue("--page") };
  const list = plottable(), shown = list.filter((column) => state.columns.includes(column.key) && column.key !== "params.seed");
  const is_usual = state.columns.join() === firstColumns.join(), telling = shown.filter((column) => column.kind === "param" || column.key === data.metric); // what was varied, and what came out
  axes = is_usual && telling.length > 1 ? telling.slice(0, AXES) : shown.length > 1 ? shown.slice(0, AXES) : list.slice(0, AXES);
  const box = $("plot").clientWidth, width = state.view === "lines" ? Math.max(box, axes.length * 104) : Math.min(box, 1200), height = state.view === "lines" ? 280 : 380, sharp = devicePixelRatio || 1;
  for (const one of [canvas, front]) {
    Object.assign(one, { width: width * sharp, height: height * sharp });
    Object.assign(one.style, { width: `${width}px`, height: `${height}px` });
    one.getContext("2d").setTransform(sharp, 0, 0, sharp, 0, 0);
  }
  return { width, height };
}
let size = { width: 0, height: 0 };
const axisX = (index) => 60 + index * (size.width - 120) / Math.max(1, axes.length - 1), axisY = (share) => size.height - 24 - share * (size.height - 74);
function pathOf(pen, row) {
  let open = false;
  pen.beginPath();
  axes.forEach((column, index) => {
    const share = makeScale(column).at(row.cells[column.index]);
    if (share == null) { open = false; return; }
    if (open) pen.lineTo(axisX(index), axisY(share)); else pen.moveTo(axisX(index), axisY(share));
    open = true;
  });
}
function drawAxes(pen) {
  pen.font = "11px sans-serif";
  axes.forEach((column, index) => {
    const x = axisX(index), scale = makeScale(column);
    pen.strokeStyle = ink.text; pen.lineWidth = 1.2; pen.beginPath(); pen.moveTo(x, axisY(0)); pen.lineTo(x, axisY(1)); pen.stroke();
    const write = (text, at, y) => { pen.strokeStyle = ink.page; pen.lineWidth = 3; pen.strokeText(text, at, y); pen.fillText(text, at, y); };
    pen.fillStyle = ink.strong; pen.textAlign = "center";
    write(column.label.length > 16 ? `${column.label.slice(0, 15)}…` : column.label, x, index % 2 ? 30 : 14);
    pen.fillStyle = ink.text; pen.textAlign = "left";
    for (const tick of scale.ticks) write(format(scale.numeric ? +tick.toPrecision(3) : String(tick).slice(0, 14), column.key), x + 4, axisY(scale.at(tick)) + 4);
  });
}
/** Draw some rows at a time, so that the page answers while thousands are drawn. */
function drawLines(ticket) {
  const pen = canvas.getContext("2d"), color = chooseColor(), scale = color && makeScale(color), alpha = Math.max(0.06, Math.min(0.8, 60 / Math.sqrt(rows.length * 30)));
  pen.clearRect(0, 0, size.width, size.height);
  const step = (start) => {
    if (ticket !== drawn) return;
    pen.lineWidth = 1.2;
    for (const row of rows.slice(start, start + SLICE)) {
      const share = scale?.at(row.cells[color.index]);
      pen.strokeStyle = share == null ? ink.line : shade(share, alpha);
      pathOf(pen, row); pen.stroke();
    }
    if (start + SLICE < rows.length) requestAnimationFrame(() => step(start + SLICE)); else drawAxes(pen);
  };
  drawAxes(pen); step(0);
}
function drawPoints() {
  const pen = canvas.getContext("2d"), x = named.get($("x").value), y = named.get($("y").value), color = chooseColor();
  pen.clearRect(0, 0, size.width, size.height); places = [];
  if (!x || !y) return;
  const [across, up, scale] = [makeScale(x), makeScale(y), makeScale(color)], left = 80, right = size.width - 20, top = 14, bottom = size.height - 46;
  const toX = (share) => left + share * (right - left), toY = (share) => bottom - share * (bottom - top);
  pen.font = "11px sans-serif"; pen.fillStyle = ink.text; pen.strokeStyle = ink.line;
  for (const tick of across.ticks) { const at = toX(across.at(tick)); pen.beginPath(); pen.moveTo(at, top); pen.lineTo(at, bottom); pen.stroke(); pen.textAlign = "center"; pen.fillText(format(across.numeric ? +tick.toPrecision(3) : String(tick).slice(0, 14)), at, bottom + 15); }
  for (const tick of up.ticks) { const at = toY(up.at(tick)); pen.beginPath(); pen.moveTo(left, at); pen.lineTo(right, at); pen.stroke(); pen.textAlign = "right"; pen.fillText(format(up.numeric ? +tick.toPrecision(3) : String(tick).slice(0, 12)), left - 6, at + 4); }
  pen.fillStyle = ink.strong; pen.textAlign = "center"; pen.fillText(x.label + (across.logs ? " (log)" : ""), (left + right) / 2, bottom + 34);
  pen.save(); pen.translate(14, (top + bottom) / 2); pen.rotate(-Math.PI / 2); pen.fillText(y.label + (up.logs ? " (log)" : ""), 0, 0); pen.restore();
  for (const row of rows) {
    const [a, b, share] = [across.at(row.cells[x.index]), up.at(row.cells[y.index]), scale.at(row.cells[color.index])];
    if (a == null || b == null) continue;
    const px = toX(a), py = toY(b), deviation = row.spread?.[y.index];
    pen.fillStyle = share == null ? ink.text : shade(share, 0.85);
    if (deviation) { pen.strokeStyle = pen.fillStyle; pen.beginPath(); pen.moveTo(px, toY(up.at(row.cells[y.index] - deviation))); pen.lineTo(px, toY(up.at(row.cells[y.index] + deviation))); pen.stroke(); }
    pen.beginPath(); pen.arc(px, py, 4, 0, 7); pen.fill();
    places.push({ row, x: px, y: py });
  }
}
function draw() {
  drawn += 1;
  const ticket = drawn;
  $("plots").hidden = state.view === "none" || plottable().length < 2;
  if ($("plots").hidden) return;
  $("scatter").hidden = state.view !== "points";
  size = layOut();
  if (state.view === "lines") drawLines(ticket); else drawPoints();
  canvas.setAttribute("aria-label", `${state.view === "lines" ? `Parallel coordinates of ${axes.map((axis) => axis.label).join(", ")}` : `${$("y").value} over ${$("x").value}`} for ${rows.length} rows; the table below has the same values.`);
  $("legend").textContent = chooseColor() ? `Color: ${chooseColor().label}, dark is low, light is high. ${state.view === "lines" ? "Draw along an axis to filter; a click on it takes the filter away." : "Draw a box to filter; a click on a point opens the run."}` : "";
}
function light(row) {
  const pen = front.getContext("2d");
  pen.clearRect(0, 0, size.width, size.height);
  if (!row || $("plots").hidden) return;
  pen.strokeStyle = pen.fillStyle = ink.strong; pen.lineWidth = 2.5;
  if (state.view === "lines") { pathOf(pen, row); pen.stroke(); return; }
  const found = places.find((place) => place.row === row);
  if (found) { pen.beginPath(); pen.arc(found.x, found.y, 7, 0, 7); pen.stroke(); }
}
function setRange(column, low, high) {
  const scale = makeScale(column);
  if (scale.numeric) state.filters[column.key] = `${+scale.value(Math.max(0, low)).toPrecision(4)}..${+scale.value(Math.min(1, high)).toPrecision(4)}`;
  else state.filters[column.key] = `= ${scale.words.filter((word) => scale.at(word) >= low - 0.001 && scale.at(word) <= high + 0.001).join(" | ")}`;
}
let from = null;
const here = (event) => ({ x: event.offsetX, y: event.offsetY });
const nearest = (at) => axes.reduce((best, _, index) => (Math.abs(axisX(index) - at.x) < Math.abs(axisX(best) - at.x) ? index : best), 0);
const nearby = (at) => places.find((place) => Math.hypot(place.x - at.x, place.y - at.y) < 7);
front.addEventListener("pointerdown", (event) => { from = here(event); });
front.addEventListener("pointermove", (event) => {
  const at = here(event), pen = front.getContext("2d");
  if (!from) { if (state.view === "points") { const hit = nearby(at); light(hit?.row ?? null); front.title = hit ? `${hit.row.id}: ${$("x").value} ${format(hit.row.cells[named.get($("x").value).index])}, ${$("y").value} ${format(hit.row.cells[named.get($("y").value).index])}` : ""; } return; }
  pen.clearRect(0, 0, size.width, size.height); pen.strokeStyle = ink.strong; pen.lineWidth = 1.5;
  if (state.view === "lines") pen.strokeRect(axisX(nearest(from)) - 9, Math.min(from.y, at.y), 18, Math.abs(at.y - from.y)); else pen.strokeRect(Math.min(from.x, at.x), Math.min(from.y, at.y), Math.abs(at.x - from.x), Math.abs(at.y - from.y));
});
front.addEventListener("pointerup", (event) => {
  if (!from) return;
  const at = here(event), start = from, is_click = Math.hypot(at.x - start.x, at.y - start.y) < 5;
  from = null;
  if (state.view === "lines") {
    const column = axes[nearest(start)], share = (y) => (size.height - 24 - y) / (size.height - 74);
    if (is_click) delete state.filters[column.key]; else setRange(column, share(Math.max(start.y, at.y)), share(Math.min(start.y, at.y)));
  } else if (is_click) {
    const hit = nearby(at);
    if (hit) { location.href = `runs/${encodeURIComponent(hit.row.id)}.html`; return; }
    delete state.filters[$("x").value]; delete state.filters[$("y").value];
  } else {
    const [x, y] = [$("x").value, $("y").value].map((key) => named.get(key)), across = (px) => (px - 80) / (size.width - 100), up = (py) => (size.height - 46 - py) / (size.height - 60);
    setRange(x, across(Math.min(start.x, at.x)), across(Math.max(start.x, at.x))); setRange(y, up(Math.max(start.y, at.y)), up(Math.min(start.y, at.y)));
  }
  state.page = 0; refresh(true);
});
front.addEventListener("pointercancel", () => { from = null; });
front.addEventListener("pointerleave", () => { from = null; light(null); });

// --- files, buttons, and all together --------------------------------------------------------------------------------------
function saveCsv() {
  const quote = (value) => { const text = value == null ? "" : typeof value === "string" && /^[=+@-]/.test(value) ? `'${value}` : String(value); return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
  const shown = listShown(), header = shown.map((key) => named.get(key).label).flatMap((label, place) => (state.group && named.get(shown[place]).kind === "metric" ? [label, `${label} deviation`] : [label]));
  const lines = rows.map((row) => shown.flatMap((key) => { const { index, kind } = named.get(key); return state.group && kind === "metric" ? [row.cells[index], row.spread[index]] : [row.cells[index]]; }).concat(state.group ? [row.n] : []));
  const text = [header.concat(state.group ? ["n"] : []), ...lines].map((line) => line.map(quote).join(",")).join("\r\n");
  const link = make("a", { href: URL.createObjectURL(new Blob([text + "\r\n"], { type: "text/csv" })), download: "runs.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function refresh(whole = false) {
  const found = filterRuns();
  rows = sortRows(state.group ? groupRuns(found) : found);
  if (whole) { showHead(); showColumns(); }
  showRows(); showTicks(); writeAddress();
  later(whole);
}
/** The plots come after the table is on the screen: they look at each value of each run. */
let awaited = null, is_whole = false;
function later(whole) {
  is_whole ||= whole;
  awaited ??= requestAnimationFrame(() => setTimeout(() => {
    if (is_whole) fillSelects();
    awaited = null; is_whole = false;
    draw(); reach();
  }));
}
function begin() {
  readAddress();
  $("search").value = state.search; $("seeds").checked = state.group; $("view").value = state.view;
  refresh(true);
}
let pause;
$("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(() => { state.search = $("search").value; state.page = 0; refresh(); }, 120); });
$("seeds").addEventListener("change", () => { state.group = $("seeds").checked; state.page = 0; refresh(true); });
$("view").addEventListener("change", () => { state.view = $("view").value; refresh(); });
for (const id of ["x", "y", "color"]) $(id).addEventListener("change", () => { state[id] = $(id).value; refresh(); });
$("csv").addEventListener("click", saveCsv);
$("reset").addEventListener("click", () => { history.replaceState(null, "", "#"); begin(); });
$("base").addEventListener("click", () => { const one = state.ticked.size === 1 ? [...state.ticked][0] : ""; state.base = one !== state.base ? one : ""; showRows(); showTicks(); writeAddress(); });
$("untick").addEventListener("click", () => { state.ticked.clear(); showRows(); showTicks(); writeAddress(); });
$("back").addEventListener("click", () => { state.page -= 1; showRows(); writeAddress(); });
$("next").addEventListener("click", () => { state.page += 1; showRows(); writeAddress(); });
addEventListener("hashchange", begin);
addEventListener("resize", () => { settle(); draw(); });
document.addEventListener("themechange", draw);
/** Take over what has changed, as the server of a live page tells it. */
MLR.update = ({ rows: changed, repetitions, removed }) => {
  for (const [id, cells] of Object.entries(changed)) {
    const run = byId.get(id), made = { cells, id, repetition: repetitions[id] };
    if (run) { Object.assign(run, made); delete run.text; } else { byId.set(id, made); runs.push(made); }
  }
  for (const id of removed) { byId.delete(id); state.ticked.delete(id); const place = runs.findIndex((run) => run.id === id); if (place >= 0) runs.splice(place, 1); }
  if (!Object.keys(changed).length && !removed.length) return;
  document.querySelector("[aria-labelledby=all-runs]").hidden = !runs.length;
  scales.clear(); refresh();
};
begin();
document.documentElement.dataset.ready = "1";
})();
