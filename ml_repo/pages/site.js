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

  /** Under a chart, the values at the place of the pointer. */
  document.addEventListener("pointermove", (event) => {
    const chart = event.target.closest?.("svg[data-x]");
    document.querySelectorAll(".read").forEach((one) => { if (one.parentElement.parentElement !== chart?.parentElement) one.remove(); });
    if (!chart) return;
    const box = chart.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * 390, [left, right] = chart.dataset.x.split(" ").map(Number), [low, high] = chart.dataset.y.split(" ").map(Number);
    const found = new Map();
    let near = null;
    for (const line of chart.querySelectorAll("polyline[data-name]")) for (const point of line.getAttribute("points").split(" ")) {
      const [x, y] = point.split(",").map(Number), known = found.get(line.dataset.name);
      if (!known || Math.abs(x - at) < Math.abs(known[0] - at)) found.set(line.dataset.name, [x, y]);
      if (near === null || Math.abs(x - at) < Math.abs(near - at)) near = x;
    }
    const caption = chart.parentElement.querySelector("figcaption"), read = caption.querySelector(".read") ?? caption.appendChild(make("span", { class: "read" }));
    read.textContent = `${chart.dataset.axis} ${+(left + (near - 48) / 330 * (right - left)).toPrecision(6)}: ${[...found].map(([name, [, y]]) => `${name} ${+(low + (190 - y) / 170 * (high - low)).toPrecision(3)}`).join(", ")}`;
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
    reach();
    addEventListener("resize", reach);
    document.addEventListener("toggle", reach, true);
  });
  return { make, format, formatSpread, chip, reach };
})();
