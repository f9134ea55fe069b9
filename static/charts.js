/* Live training curves. htmx polls the JSON; this draws it with uPlot, keeps the legend and the
   table of figures beside it, and follows the colour theme. Pages read well without it. */
"use strict";

const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
const COLOURS = 4;
const look = { smoothing: 0 }; // of the lines: 0 as logged, towards 1 the longer a mean
const plots = new Map(); // figure -> {plot, chart}
const shown = new WeakMap(); // container -> JSON drawn last

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(3)));
}

const compact = new Intl.NumberFormat("en", { notation: "compact" });

/* Curves are of any size; what has a unit is counted in everyday numbers. */
function written(chart, value) {
  return chart.unit && value !== null && value !== undefined ? compact.format(value) : figure(value);
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ink(node, property = "color") {
  return getComputedStyle(node)[property];
}

/* The figure's words: title, legend, table. The same for one the server wrote and a cloned one. */
function dress(node, chart) {
  node.querySelector("h3").textContent = chart.title;
  node.querySelector("figcaption span").textContent = chart.job;
  node.querySelector(".plot").setAttribute("aria-label", chart.summary);
  const file = node.querySelector("a.csv");
  if (file) {
    file.href = `${node.closest("[data-curves]").dataset.csv}?chart=${encodeURIComponent(chart.key)}`;
    file.querySelector("span").textContent = ` of ${chart.title}, ${chart.job}`;
  }
  const legend = node.querySelector(".legend");
  if (legend.children.length !== chart.series.length) {
    legend.replaceChildren(...chart.series.map(legendItem));
  }
  say(node, chart, chart.steps.length - 1);
  const head = node.querySelector("thead tr");
  head.replaceChildren(...[chart.unit ?? "Step", ...chart.series.map((one) => one.name)].map((name) => {
    const cell = element("th", name);
    cell.scope = "col";
    return cell;
  }));
  node.querySelector("tbody").replaceChildren(...chart.rows.map(([step, values]) => {
    const row = element("tr");
    const first = element("th", step);
    first.scope = "row";
    row.append(first, ...values.map((value) => element("td", written(chart, value))));
    return row;
  }));
}

function legendItem(one, index) {
  const item = element("li");
  item.className = `series-${index % COLOURS}`;
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 20 8");
  picture.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "line");
  for (const [name, value] of [["x1", 0], ["x2", 20], ["y1", 4], ["y2", 4]]) line.setAttribute(name, value);
  picture.append(line);
  item.append(picture, ` ${one.name} `, element("output"));
  return item;
}

/* The legend's figures: those under the pointer, else the newest. */
function say(node, chart, index) {
  const outputs = node.querySelectorAll(".legend output");
  chart.series.forEach((one, place) => {
    let at = index;
    while (at > 0 && one.mean[at] === null) at -= 1;
    if (outputs[place]) outputs[place].textContent = written(chart, one.mean[at]);
  });
}

/* An exponential moving average without the bias of its beginning; few points stay as they are. */
function smoothed(one) {
  if (!look.smoothing || sparse(one)) return one.mean;
  let sum = 0;
  let weight = 0;
  return one.mean.map((value) => {
    if (value === null) return null;
    sum = look.smoothing * sum + (1 - look.smoothing) * value;
    weight = look.smoothing * weight + (1 - look.smoothing);
    return sum / weight;
  });
}

function columns(chart) {
  const found = [chart.steps];
  for (const one of chart.series) found.push(smoothed(one), one.low, one.high);
  return found;
}

function wash(colour) {
  const [r, g, b] = colour.match(/[\d.]+/g);
  return `rgba(${r}, ${g}, ${b}, 0.16)`;
}

/* A figure logged once an epoch among one logged each step: its few points are marked and joined. */
function sparse(one) {
  return one.mean.reduce((count, value) => count + (value !== null), 0) < 30;
}

function options(node, chart, width) {
  const font = `12px ${ink(document.body, "fontFamily")}`;
  const soft = ink(node.querySelector("figcaption span"));
  const grid = ink(node, "borderTopColor");
  const items = [...node.querySelectorAll(".legend li")];
  const series = [{}];
  const bands = [];
  chart.series.forEach((one, place) => {
    const stroke = ink(items[place].querySelector("line"), "stroke");
    const dash = DASHES[place % DASHES.length];
    const few = sparse(one);
    series.push(
      { label: one.name, stroke, width: 1.75, dash, spanGaps: few, points: { show: few, size: 5, fill: stroke } },
      { width: 0, points: { show: false } },
      { width: 0, points: { show: false } },
    );
    const first = 1 + place * 3;
    bands.push({ series: [first + 2, first + 1], fill: wash(stroke) });
  });
  const axis = { stroke: soft, font, ticks: { show: false }, grid: { stroke: grid, width: 1 } };
  return {
    width,
    height: 190,
    padding: [8, 20, 0, 0],
    series,
    bands,
    legend: { show: false },
    scales: { x: { time: false }, y: chart.share ? { range: [0, 1] } : {} },
    axes: [
      { ...axis, grid: { show: false }, space: 60, size: 28, values: (plot, ticks) => ticks.map((t) => (Number.isInteger(t) ? String(chart.labels?.[t] ?? t) : "")) },
      { ...axis, size: 52, space: 36, values: (plot, ticks) => ticks.map((t) => written(chart, t)) },
    ],
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 }, sync: { key: chart.job } },
    hooks: {
      setCursor: [(plot) => {
        const held = plots.get(node);
        if (held) say(node, held.chart, plot.cursor.idx ?? held.chart.steps.length - 1);
      }],
    },
  };
}

function draw(node, chart) {
  dress(node, chart);
  const held = plots.get(node);
  const shape = chart.series.map(sparse).join();
  if (held && held.shape === shape) {
    const { min, max } = held.plot.scales.x;
    const before = held.chart.steps;
    const zoomed = min > before[0] || max < before[before.length - 1];
    held.chart = chart;
    held.plot.setData(columns(chart), !zoomed);
    if (zoomed) held.plot.redraw();
    return;
  }
  if (held) held.plot.destroy();
  const place = node.querySelector(".plot");
  const plot = new uPlot(options(node, chart, Math.max(200, place.clientWidth)), columns(chart), place);
  plots.set(node, { plot, chart, shape });
  resize.observe(place);
}

const resize = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const held = plots.get(entry.target.closest("figure"));
    const width = Math.floor(entry.contentRect.width);
    if (held && width >= 200 && width !== held.plot.width) held.plot.setSize({ width, height: held.plot.height });
  }
});

function redraw() {
  for (const [node, { plot, chart }] of [...plots]) {
    plot.destroy();
    plots.delete(node);
    draw(node, chart);
  }
}

document.addEventListener("htmx:afterOnLoad", (event) => {
  const container = event.target;
  if (!container.matches?.("[data-curves]")) return;
  const text = event.detail.xhr.responseText;
  if (shown.get(container) === text) return;
  shown.set(container, text);
  const { charts } = JSON.parse(text);
  const template = document.getElementById("chart-template");
  for (const chart of charts) {
    let node = [...container.children].find((one) => one.dataset.chart === chart.key);
    if (!node) {
      node = template.content.firstElementChild.cloneNode(true);
      node.dataset.chart = chart.key;
      container.append(node);
    }
    draw(node, chart);
  }
  const empty = document.querySelector("[data-no-curves]");
  if (empty) empty.hidden = charts.length > 0;
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
