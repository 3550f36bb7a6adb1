"use strict";
// Charts are drawn when they come into view; selects set the parameters of all charts of a name.
const FONT = "system-ui, 'Segoe UI', Roboto, sans-serif";
const text = { labelColor: "var(--ink)", titleColor: "var(--quiet)", labelFont: FONT, titleFont: FONT };
const columns = (width) => (width < 480 ? 1 : width < 800 ? 2 : 3);  // of a legend
const config = (width) => ({
  background: null, font: FONT,
  view: { stroke: "var(--line)" },
  axis: { ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, gridColor: "var(--line)", gridOpacity: 0.7,
          domainColor: "var(--quiet)", tickColor: "var(--line)", labelLimit: Math.max(120, Math.round(width * 0.42)) },
  axisX: { labelLimit: 160, labelOverlap: true, labelFlush: false },
  legend: { ...text, labelFontSize: 12, titleFontSize: 12, labelLimit: Math.round((width - 80) / columns(width)) - 35 },
  text: { color: "var(--ink)" },
});
const views = new Map(), heights = new Map();
const chosen = (signal) => document.querySelector(`select[data-signal="${signal}"]`)?.value;

function fits(figure) {  // whether the chart has something to show of what is chosen
  const { signal, keys } = figure.dataset;
  if (!signal) return true;
  const has = JSON.parse(keys).includes(chosen(signal));
  figure.hidden = !has;
  return has;
}

async function draw(figure) {
  const plot = figure.querySelector(".plot");
  if (views.has(plot) || !fits(figure) || !plot.clientWidth) return;
  views.set(plot, null);
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const { signal } = figure.dataset;
  heights.set(plot, spec.usermeta?.heights);
  if (heights.get(plot)) spec.height = heights.get(plot)[chosen(signal)];
  for (const param of spec.params ?? []) if (signal && param.name === signal) param.value = chosen(signal);
  const made = await window.vegaEmbed(plot, fewer(spec, columns(plot.clientWidth)), {
    renderer: "svg", actions: false, config: config(plot.clientWidth), tooltip: { theme: "custom" } });
  views.set(plot, made.view);
  if (signal) show(plot, signal, chosen(signal));  // chosen anew while the chart was being drawn
}

function show(plot, signal, value) {
  const view = views.get(plot), height = heights.get(plot)?.[value];
  if (view.signal(signal) === value) return;
  if (height) view.height(height);
  view.signal(signal, value).runAsync();
}

function fewer(value, most) {  // columns of legends
  if (Array.isArray(value)) return value.map((v) => fewer(v, most));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, k === "columns" ? Math.min(v, most) : fewer(v, most)]));
}

const figures = [...document.querySelectorAll("figure.chart")];
const watcher = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) if (isIntersecting) draw(target);
}, { rootMargin: "300px" });
figures.forEach((figure) => watcher.observe(figure));
document.addEventListener("toggle", (event) => {
  if (event.target.open) event.target.querySelectorAll?.("figure.chart").forEach(draw);
}, true);

function choose(signal, value) {
  for (const select of document.querySelectorAll(`select[data-signal="${signal}"]`)) {
    if ([...select.options].some((o) => o.value === value)) select.value = value;
  }
  for (const figure of figures.filter((f) => f.dataset.signal === signal)) {
    const plot = figure.querySelector(".plot");
    if (!fits(figure)) continue;
    if (views.get(plot)) show(plot, signal, value); else draw(figure);
  }
  for (const board of document.querySelectorAll(".board")) {
    if (signal === "board") board.hidden = board.dataset.board !== value;
  }
}
for (const select of document.querySelectorAll("select[data-signal]")) {
  select.addEventListener("change", () => choose(select.dataset.signal, select.value));
}
for (const signal of new Set(figures.map((f) => f.dataset.signal))) if (signal) choose(signal, chosen(signal));

// pictures are in the page once each, and stand where a claim that is opened shows them
const pictures = JSON.parse(document.getElementById("pictures").textContent);
document.addEventListener("toggle", (event) => {
  for (const place of event.target.querySelectorAll?.("[data-position]:empty") ?? []) {
    const { set, position } = place.dataset;
    const source = pictures[set]?.[position];
    if (!source) continue;
    const figure = document.createElement("figure"), image = new Image();
    image.src = source;
    image.alt = `example ${position} of ${set}`;
    figure.append(image, position);
    place.append(figure);
  }
}, true);

// the table of claims: words and a verdict filter it, headings sort it
const index = document.getElementById("index");
if (index) {
  const rows = [...index.tBodies[0].rows], find = document.getElementById("find"), word = document.getElementById("word");
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const said = row.textContent.toLowerCase();
      row.hidden = !(words.every((w) => said.includes(w)) && (!word.value || row.dataset.group === word.value));
    }
    document.getElementById("count").value = `${rows.filter((r) => !r.hidden).length} of ${rows.length}`;
  };
  find.addEventListener("input", filter);
  word.addEventListener("change", filter);
  find.form.addEventListener("submit", (event) => event.preventDefault());
  filter();
  const value = (row, i) => { const t = row.cells[i].textContent.trim(), n = t.match(/[-+]?\d+(\.\d+)?/); return i && n ? Number(n[0]) : t; };
  [...index.tHead.rows[0].cells].forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of index.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    rows.sort((a, b) => (up ? 1 : -1) * order(value(a, i), value(b, i)));
    index.tBodies[0].append(...rows);
  }));
  const claims = [...document.querySelectorAll(".claim details")];
  document.getElementById("open-all").addEventListener("click", (event) => {
    const open = claims.some((d) => !d.open);
    claims.forEach((d) => { d.open = open; });
    event.target.textContent = open ? "Close all" : "Open all";
  });
}

// tables of a phone are lists, whose lines say what the heading said
for (const table of document.querySelectorAll("table.plain")) {
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, i) => { cell.dataset.label = cell.textContent.trim() && heads[i]; });
}

// a link to a claim opens it
function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target && target.closest("details");
  if (details) { details.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", reveal);
reveal();

// charts follow the width of the window; what is printed is drawn first
let timer;
addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => views.forEach((view) => view?.resize().runAsync()), 150); });
addEventListener("beforeprint", () => figures.forEach(draw));
