/** The style of the page that `attentionPage` makes. */
export const PAGE_STYLE = `
:root { color-scheme: light dark; --ink: #1a2230; --soft: #5b6675; --line: #d5dbe3; --ground: #ffffff; --mark: #b3471d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #343d49; --ground: #14181e; --mark: #ffa066; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem; font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--ground); }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
header p { margin: 0.25rem 0 0; color: var(--soft); overflow-wrap: anywhere; }
.part { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.maps { overflow: auto; max-width: 100%; max-height: 80vh; }
table { border-collapse: collapse; }
th { font-weight: 500; font-size: 0.8rem; color: var(--soft); padding: 0.2rem 0.4rem; text-align: center; white-space: nowrap; }
td { padding: 2px; }
.maps button { display: block; padding: 2px; border: 2px solid transparent; border-radius: 4px; background: none; color: var(--soft);
  font: 11px/1.2 system-ui, sans-serif; cursor: pointer; }
.maps button:hover { border-color: var(--line); }
.maps button:focus-visible { outline: 2px solid var(--mark); }
.maps button[aria-pressed="true"] { border-color: var(--mark); color: var(--ink); }
.maps canvas { display: block; width: 56px; height: 56px; image-rendering: pixelated; border: 1px solid var(--line); }
.large { flex: 1 1 24rem; min-width: 0; }
.large h3 { font-size: 1rem; margin: 0 0 0.5rem; font-weight: 600; }
.scroll { overflow: auto; max-height: 80vh; max-width: 100%; }
.scale { display: flex; align-items: center; gap: 0.5rem; margin-top: 0.5rem; color: var(--soft); font-size: 0.8rem; }
.scale canvas { width: 120px; height: 10px; border: 1px solid var(--line); }
#tip { position: fixed; z-index: 1; max-width: 22rem; padding: 0.35rem 0.55rem; border-radius: 4px; pointer-events: none;
  background: var(--ink); color: var(--ground); font-size: 0.85rem; white-space: pre-wrap; overflow-wrap: anywhere; }
#tip[hidden] { display: none; }
`;

/** The script of that page. Text goes in by textContent and fillText alone. */
export const PAGE_SCRIPT = `
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const dark = matchMedia("(prefers-color-scheme: dark)");
const make = (name, text, parent) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};
// Blanks and line ends are shown, since tokens begin with them.
const shown = (text) => text.replace(/\\n/g, "\\u21b5").replace(/\\t/g, "\\u21e5").replace(/ /g, "\\u00b7") || "\\u2205";
const short = (text) => { const s = shown(text); return s.length > 12 ? s.slice(0, 11) + "\\u2026" : s; };
const unpack = (base64) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) / data.whole);
};
// From the ground to a deep blue; the root makes small weights visible.
const shade = (weight) => {
  const t = Math.sqrt(weight);
  const [from, to] = dark.matches ? [[20, 24, 30], [126, 190, 255]] : [[255, 255, 255], [12, 52, 110]];
  return from.map((a, i) => Math.round(a + (to[i] - a) * t));
};
const paint = (canvas, weights, rows, columns) => {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  weights.forEach((weight, i) => image.data.set([...shade(weight), 255], 4 * i));
  context.putImageData(image, 0, 0);
};
const showPart = (part) => {
  const [rows, columns] = [part.queries.length, part.keys.length];
  const section = make("section", undefined, document.getElementById("parts"));
  make("h2", part.title, section);
  const body = make("div", undefined, section);
  body.className = "part";
  const maps = make("div", undefined, body);
  maps.className = "maps";
  const large = make("div", undefined, body);
  large.className = "large";
  const title = make("h3", "", large);
  const scroll = make("div", undefined, large);
  scroll.className = "scroll";
  scroll.tabIndex = 0;
  const canvas = make("canvas", undefined, scroll);
  const scale = make("div", undefined, large);
  scale.className = "scale";
  make("span", "0", scale);
  const bar = make("canvas", undefined, scale);
  make("span", "1 (shade: square root of the weight)", scale);
  const table = make("table", undefined, maps);
  const redraw = [];
  let chosen;
  const top = make("tr", undefined, make("thead", undefined, table));
  make("th", "layer", top);
  for (const { head } of part.layers[0]?.heads ?? []) make("th", "head " + head, top).scope = "col";
  const lines = make("tbody", undefined, table);
  const cell = Math.max(10, Math.min(26, Math.floor(620 / Math.max(rows, columns))));
  const margin = { left: 96, top: 84 };
  const drawLarge = () => {
    const { layer, head, entropy, weights } = chosen;
    title.textContent = "Layer " + layer + ", head " + head + ": entropy " + entropy.toFixed(3) + " nats";
    const [width, height] = [margin.left + columns * cell + 1, margin.top + rows * cell + 1];
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title.textContent + "; rows attend to columns");
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const ink = getComputedStyle(document.body).color;
    context.font = Math.min(12, cell) + "px ui-monospace, monospace";
    context.textBaseline = "middle";
    weights.forEach((weight, i) => {
      context.fillStyle = "rgb(" + shade(weight).join(",") + ")";
      context.fillRect(margin.left + (i % columns) * cell, margin.top + Math.floor(i / columns) * cell, cell, cell);
    });
    context.strokeStyle = getComputedStyle(document.body).getPropertyValue("--line");
    context.strokeRect(margin.left + 0.5, margin.top + 0.5, columns * cell, rows * cell);
    context.fillStyle = ink;
    context.textAlign = "right";
    part.queries.forEach((text, i) => context.fillText(short(text), margin.left - 6, margin.top + (i + 0.5) * cell));
    context.textAlign = "left";
    part.keys.forEach((text, j) => {
      context.save();
      context.translate(margin.left + (j + 0.5) * cell, margin.top - 6);
      context.rotate(-Math.PI / 2);
      context.fillText(short(text), 0, 0);
      context.restore();
    });
    paint(bar, Float32Array.from({ length: 120 }, (_, i) => i / 119), 1, 120);
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - margin.left) / cell);
    const i = Math.floor((event.clientY - box.top - margin.top) / cell);
    tip.hidden = i < 0 || j < 0 || i >= rows || j >= columns;
    if (tip.hidden) return;
    tip.textContent = "\\u201c" + shown(part.queries[i]) + "\\u201d (" + i + ") \\u2192 \\u201c" + shown(part.keys[j]) + "\\u201d (" + j + ")\\n" +
      "weight " + chosen.weights[i * columns + j].toFixed(4);
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)) + "px";
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  for (const { layer, heads } of part.layers) {
    const line = make("tr", undefined, lines);
    make("th", String(layer), line).scope = "row";
    for (const { head, entropy, weights: packed } of heads) {
      const button = make("button", undefined, make("td", undefined, line));
      button.type = "button";
      button.setAttribute("aria-label", "Layer " + layer + ", head " + head + ", entropy " + entropy.toFixed(2));
      const small = make("canvas", undefined, button);
      make("span", entropy.toFixed(2), button);
      const weights = unpack(packed);
      const item = { layer, head, entropy, weights, button };
      const draw = () => paint(small, weights, rows, columns);
      draw();
      redraw.push(draw);
      button.addEventListener("click", () => {
        chosen?.button.setAttribute("aria-pressed", "false");
        chosen = item;
        button.setAttribute("aria-pressed", "true");
        drawLarge();
      });
      if (!chosen) { chosen = item; button.setAttribute("aria-pressed", "true"); }
    }
  }
  if (chosen) drawLarge();
  dark.addEventListener("change", () => { redraw.forEach((draw) => draw()); if (chosen) drawLarge(); });
};
document.getElementById("model").textContent = data.model;
if (data.next.length > 0) {
  const words = data.next.map(({ text, probability }) => "\\u201c" + shown(text) + "\\u201d " + (100 * probability).toFixed(1) + " %");
  document.getElementById("next").textContent = "Likeliest next tokens: " + words.join(", ");
}
data.parts.forEach(showPart);
`;
