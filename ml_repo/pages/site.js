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

  // --- charts: drawn by uPlot, also by time, on a logarithmic axis, and smoothed as TensorBoard does ------------------------------
  const look = { log: false, smooth: 0, time: false }, zoom = {}, dashes = [[], [6, 3], [2, 3], [9, 3, 2, 3], [12, 4], [1, 4]], digits = (value) => String(+value.toPrecision(6)), whole = Array.from({ length: 30 }, (_, place) => [1, 2, 5][place % 3] * 10 ** Math.floor(place / 3));
  let plots = [], redrawAll = () => {}; // those on the page, with what they count across
  /** A moving mean with weights that fall by `weight` a step, without the bias of its beginning. */
  const smoothen = (points, weight) => { let sum = 0, power = 1; return points.map(([step, value, second]) => { sum = sum * weight + value * (1 - weight); power *= weight; return [step, weight ? sum / (1 - power) : value, second]; }); };
  /** Where steps begin again, as in a second fit, a new line begins. */
  const split = (points, at) => points.reduce((pieces, point) => { const last = pieces.at(-1); if (last && point[at] >= last.at(-1)[at]) last.push(point); else pieces.push([point]); return pieces; }, []);
  const zoomTo = (across, range) => { zoom[across] = range; for (const [one, its] of plots) if (its === across) one.setScale("x", range ?? { min: one.data[0][0], max: one.data[0].at(-1) }); };
  /** Draw the curves of one metric: [step, value, second] each, with a label and a style. */
  const chart = (name, series, axis = "step") => {
    const at = look.time && series.every(({ points }) => points.every((point) => point.length > 2)) ? 2 : 0, across = at ? "second" : axis;
    const lines = series.flatMap((one) => split(smoothen(one.points.filter(([, value]) => Number.isFinite(value) && (!look.log || value > 0)), look.smooth), at).map((points) => ({ ...one, points })));
    if (!lines.some((one) => one.points.length > 1)) return null;
    const box = make("div", { class: "chart", tabindex: 0, role: "group", "aria-label": `${name}: arrows show values, + and − zoom, 0 shows the whole` }), paint = (style) => { const probe = box.appendChild(make("i", { class: `s${style % 6}` })), color = getComputedStyle(probe).getPropertyValue("--series"); probe.remove(); return color; };
    const draw = (width) => {
      const style = getComputedStyle(root), scale = { stroke: style.getPropertyValue("--faint"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { show: false }, font: "11px sans-serif" }, write = (_, values) => values.map((value) => (value == null ? "" : digits(value)));
      const plot = new uPlot({
        width, height: 210, cursor: { y: false, sync: { key: across }, focus: { prox: 20 } }, focus: { alpha: 0.35 }, scales: { x: { time: false }, y: { distr: look.log ? 3 : 1 } }, axes: [{ ...scale, ...(lines.every((one) => one.points.every((point) => Number.isInteger(point[at]))) ? { incrs: whole } : {}), label: across, labelSize: 16, labelFont: "11px sans-serif", size: 24, space: 60 }, { ...scale, size: 52, values: write }],
        series: [{ label: across, value: (_, value) => (value == null ? "–" : digits(value)) }, ...lines.map((one) => ({ label: one.label, stroke: paint(one.style), width: 2, dash: dashes[one.style % 6], points: { fill: style.getPropertyValue("--page") }, value: (_, value) => (value == null ? "–" : digits(value)) }))],
        hooks: { setSelect: [(one) => { if (one.select.width > 0) zoomTo(across, { min: one.posToVal(one.select.left, "x"), max: one.posToVal(one.select.left + one.select.width, "x") }); }] },
      }, uPlot.join(lines.map((one) => [one.points.map((point) => point[at]), one.points.map((point) => point[1])])), box);
      plot.root.addEventListener("dblclick", () => zoomTo(across, null));
      plots = [...plots.filter(([one]) => one.root.isConnected), [plot, across]];
      if (zoom[across]) plot.setScale("x", zoom[across]);
      return plot;
    };
    let plot = null;
    box.addEventListener("keydown", ({ key }) => {
      if (!plot) return; // it is about to be drawn
      const { min, max } = plot?.scales.x ?? {}, steps = plot?.data[0], at = plot?.cursor.idx, middle = steps?.[at] ?? (min + max) / 2;
      if (key === "ArrowLeft" || key === "ArrowRight") plot.setCursor({ left: plot.valToPos(steps[Math.max(0, Math.min(steps.length - 1, at == null ? 0 : at + (key === "ArrowLeft" ? -1 : 1)))], "x"), top: 9 }, true, true);
      else if (key === "+") zoomTo(across, { min: Math.max(min, middle - (max - min) / 4), max: Math.min(max, middle + (max - min) / 4) });
      else if (key === "-" || key === "0") zoomTo(across, key === "0" ? null : { min: Math.max(steps[0], min - (max - min) / 2), max: Math.min(steps.at(-1), max + (max - min) / 2) });
    });
    new ResizeObserver(([{ contentRect: { width } }]) => { if (!width || width === plot?.width) return; if (plot) plot.setSize({ width, height: 210 }); else plot = draw(width); }).observe(box);
    return make("figure", { "aria-label": `${name} by ${across}: ${series.filter((one) => one.points.length).map((one) => `${one.label} ends at ${digits(+one.points.at(-1)[1])}`).join(", ")}` }, make("figcaption", {}, name), box);
  };
  /** Fields for the axes and the smoothing of all charts of a page. */
  const chartTools = (redraw) => {
    redrawAll = redraw;
    const box = (key, title) => { const field = make("input", { type: "checkbox", onchange: () => { look[key] = field.checked; redraw(); } }); field.checked = look[key]; return make("label", {}, field, ` ${title}`); };
    const smooth = make("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: look.smooth, oninput: () => { look.smooth = +smooth.value; redraw(); } });
    return make("p", { class: "tools look" }, box("log", "Logarithmic"), box("time", "By time"), make("label", {}, "Smoothing ", smooth), make("button", { type: "button", onclick: () => Object.keys(zoom).forEach((across) => zoomTo(across, null)) }, "Reset zoom"), make("span", { class: "faint" }, "Drag over a chart to zoom; a double click shows the whole. With the keyboard: arrows, + and −."));
  };
  /** The charts of a run: made on the server for pages without scripts, and drawn anew here. */
  const equip = () => {
    const all = [...document.querySelectorAll(".charts[data-curves]")];
    const draw = (box) => {
      const groups = new Map();
      for (const [key, points] of Object.entries(JSON.parse(box.dataset.curves))) {
        const name = key.match(/^(?:train|val|test)_(.+)/)?.[1] ?? key;
        groups.set(name, [...(groups.get(name) ?? []), { label: key, style: groups.get(name)?.length ?? 0, points }]);
      }
      box.replaceChildren(...[...groups].map(([name, series]) => chart(name, series, box.dataset.axis)).filter(Boolean));
    };
    document.querySelectorAll("figure[data-images]").forEach(slide);
    all.forEach(draw);
    if (all[0]?.children.length) all[0].before(chartTools(() => all.forEach(draw)));
  };
  /** Images of one name: a slider over their steps, which follows the last one until somebody chooses another. */
  const chosen = new Map();
  const slide = (figure) => {
    const images = JSON.parse(figure.dataset.images), caption = figure.querySelector("figcaption"), picture = figure.querySelector("img"), name = picture.alt, said = make("span", { class: "faint" });
    if (images.length < 2) return;
    const show = () => { const place = Math.min(chosen.get(name) ?? Infinity, images.length - 1), [step, address] = images[place]; picture.src = figure.dataset.place + address; said.textContent = ` step ${step} `; return place; };
    const field = make("input", { type: "range", min: 0, max: images.length - 1, value: show(), "aria-label": `step of ${name}`, oninput: () => { if (+field.value < images.length - 1) chosen.set(name, +field.value); else chosen.delete(name); show(); } });
    caption.append(said, field);
  };
  document.addEventListener("themechange", () => redrawAll());

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
  return { make, format, formatSpread, chip, reach, chart, chartTools, equip, plots: () => plots.map(([plot]) => plot).filter((plot) => plot.root.isConnected) };
})();
