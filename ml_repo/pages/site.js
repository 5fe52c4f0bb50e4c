// What all pages share: light and dark, copy buttons, and a few helpers.
"use strict";
const MLR = (() => {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const read = () => { try { return localStorage.getItem("theme") || "auto"; } catch { return "auto"; } };
  const apply = (theme) => { root.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme; };
  let theme = read();
  apply(theme);
  system.addEventListener("change", () => { apply(theme); document.dispatchEvent(new Event("themechange")); });

  /** Make an element; texts become text, never HTML. */
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child != null));
    return element;
  };

  /** Write a value for a person. */
  const format = (value, key = "") => {
    if (value == null) return "";
    if (key === "duration_s" && typeof value === "number") return value < 60 ? `${value.toFixed(1)} s` : value < 3600 ? `${Math.floor(value / 60)} min ${String(Math.round(value % 60)).padStart(2, "0")} s` : `${Math.floor(value / 3600)} h ${String(Math.round(value % 3600 / 60)).padStart(2, "0")} min`;
    if (key === "started") return String(value).slice(0, 16).replace("T", " ");
    if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(+value.toPrecision(6));
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };

  /** Write a mean and the standard deviation of its values, in two digits of the latter. */
  const formatSpread = (mean, deviation) => {
    const size = Math.floor(Math.log10(deviation));
    if (!(deviation > 0)) return `${format(mean)} ± 0`;
    if (size > -6 && size < 7) return `${mean.toFixed(Math.max(0, 1 - size))} ± ${deviation.toFixed(Math.max(0, 1 - size))}`;
    return `${mean.toExponential(Math.max(1, Math.min(15, Math.floor(Math.log10(Math.abs(mean) || deviation)) - size + 1)))} ± ${deviation.toExponential(1)}`;
  };

  const chip = (word) => make("span", { class: `chip ${word.split(" ")[0]}` }, word);

  /** Whatever is too wide can be scrolled with the keyboard, too. */
  const reach = () => document.querySelectorAll("pre, .rich, .scroll, .plot, .command code, math[display=block]").forEach((box) => {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      if (!box.hasAttribute("aria-label") && box.matches(".scroll, .plot, .rich")) { box.setAttribute("role", "region"); box.setAttribute("aria-label", "a wide part; scrolls sideways"); }
    }
  });

  // --- charts: curves of one metric, also on a logarithmic axis and smoothed as TensorBoard does -----------------------------
  const svg = (tag, attributes, ...children) => { const element = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value); element.append(...children); return element; };
  const look = { log: false, smooth: 0 }, digits = (value) => String(+value.toPrecision(3));
  /** A moving mean with weights that fall by `weight` a step, without the bias of its beginning. */
  const smoothen = (points, weight) => { let sum = 0, power = 1; return points.map(([step, value]) => { sum = sum * weight + value * (1 - weight); power *= weight; return [step, weight ? sum / (1 - power) : value]; }); };
  /** Draw curves, each with a label and a style. */
  const chart = (name, series, axis = "step") => {
    const shown = series.map((one) => ({ ...one, points: smoothen(one.points.filter(([, value]) => Number.isFinite(value) && (!look.log || value > 0)), look.smooth) })).filter((one) => one.points.length > 1), points = shown.flatMap((one) => one.points);
    if (!points.length) return null;
    const bend = look.log ? Math.log10 : (value) => value, back = look.log ? (value) => 10 ** value : (value) => value, bound = (list) => list.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const [left, right] = bound(points.map(([step]) => step)), [low, high] = bound(points.map(([, value]) => bend(value))), x = (value) => 48 + (value - left) / (right - left || 1) * 330, y = (value) => 190 - (value - low) / (high - low || 1) * 170;
    const words = shown.map((one) => `${one.label} ends at ${digits(one.points.at(-1)[1])}`).join(", "), key = (one) => make("span", { class: `key s${one.style % 6}` }, svg("svg", { class: "mini", viewBox: "0 0 30 8", "aria-hidden": "true" }, svg("line", { class: `curve s${one.style % 6}`, x1: 0, x2: 30, y1: 4, y2: 4 })), one.label);
    return make("figure", {}, svg("svg", { viewBox: "0 0 390 216", role: "img", "aria-label": `${name} by ${axis}: ${words}`, "data-axis": axis, "data-x": `${left} ${right}`, "data-y": `${low} ${high}`, "data-log": look.log ? "1" : "" },
      ...[low, (low + high) / 2, high].flatMap((value) => [svg("line", { class: "axis", x1: 48, x2: 378, y1: y(value), y2: y(value) }), svg("text", { x: 44, y: y(value) + 4, "text-anchor": "end" }, digits(back(value)))]),
      ...[left, right].map((value, end) => svg("text", { x: x(value), y: 208, "text-anchor": end ? "end" : "start" }, `${axis} ${digits(value)}`)),
      ...shown.map((one) => svg("polyline", { class: `curve s${one.style % 6}`, "data-name": one.label, points: one.points.map(([step, value]) => `${x(step).toFixed(1)},${y(bend(value)).toFixed(1)}`).join(" ") }))), make("figcaption", {}, series.some((one) => one.label !== name) && !series[0].is_keyed ? shown.map(key) : name));
  };
  /** Fields for the axis and the smoothing of all charts of a page. */
  const chartTools = (redraw) => {
    const log = make("input", { type: "checkbox", onchange: () => { look.log = log.checked; redraw(); } }), smooth = make("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: look.smooth, oninput: () => { look.smooth = +smooth.value; redraw(); } });
    log.checked = look.log;
    return make("p", { class: "tools look" }, make("label", {}, log, " Logarithmic"), make("label", {}, "Smoothing ", smooth));
  };
  /** The charts of a run: made on the server, drawn again when somebody wants another look. */
  const equip = () => document.querySelectorAll(".charts[data-curves]").forEach((box) => {
    const groups = new Map();
    for (const [key, points] of Object.entries(JSON.parse(box.dataset.curves))) {
      const name = key.match(/^(?:train|val|test)_(.+)/)?.[1] ?? key;
      groups.set(name, [...(groups.get(name) ?? []), { label: key, style: groups.get(name)?.length ?? 0, points }]);
    }
    const redraw = () => box.replaceChildren(...[...groups].map(([name, series]) => chart(name, series)).filter(Boolean));
    if (box.children.length && !box.previousElementSibling?.classList.contains("look")) box.before(chartTools(redraw));
    if (look.log || look.smooth) redraw();
  });

  /** Under a chart, the values at the place of the pointer. */
  document.addEventListener("pointermove", (event) => {
    const picture = event.target.closest?.("svg[data-x]");
    document.querySelectorAll(".read").forEach((one) => { if (one.parentElement.parentElement !== picture?.parentElement) one.remove(); });
    if (!picture) return;
    const box = picture.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * 390, [left, right] = picture.dataset.x.split(" ").map(Number), [low, high] = picture.dataset.y.split(" ").map(Number);
    const found = new Map();
    let near = null;
    for (const line of picture.querySelectorAll("polyline[data-name]")) for (const point of line.getAttribute("points").split(" ")) {
      const [x, y] = point.split(",").map(Number), known = found.get(line.dataset.name);
      if (!known || Math.abs(x - at) < Math.abs(known[0] - at)) found.set(line.dataset.name, [x, y]);
      if (near === null || Math.abs(x - at) < Math.abs(near - at)) near = x;
    }
    const caption = picture.parentElement.querySelector("figcaption"), read = caption.querySelector(".read") ?? caption.appendChild(make("span", { class: "read" }));
    read.textContent = `${picture.dataset.axis} ${+(left + (near - 48) / 330 * (right - left)).toPrecision(6)}: ${[...found].map(([name, [, y]]) => `${name} ${digits((picture.dataset.log ? (value) => 10 ** value : (value) => value)(low + (190 - y) / 170 * (high - low)))}`).join(", ")}`;
  });

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const say = () => { button.textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme]; };
    if (button) {
      say();
      button.addEventListener("click", () => {
        theme = { auto: "light", light: "dark", dark: "auto" }[theme];
        try { localStorage.setItem("theme", theme); } catch { /* a browser may refuse */ }
        apply(theme); say(); document.dispatchEvent(new Event("themechange"));
      });
    }
    document.querySelectorAll(".command").forEach((line) => {
      const copy = make("button", { type: "button", "aria-label": `Copy: ${line.querySelector("code").textContent}` }, "Copy");
      copy.addEventListener("click", async () => {
        try { await navigator.clipboard.writeText(line.querySelector("code").textContent); copy.textContent = "Copied"; }
        catch { getSelection().selectAllChildren(line.querySelector("code")); copy.textContent = "Selected"; }
        setTimeout(() => { copy.textContent = "Copy"; }, 1500);
      });
      line.append(copy);
    });
    equip();
    reach();
    addEventListener("resize", reach);
    document.addEventListener("toggle", reach, true);
  });
  return { make, svg, format, formatSpread, chip, reach, chart, chartTools, equip };
})();
