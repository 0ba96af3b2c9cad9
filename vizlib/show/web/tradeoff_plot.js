// One plot of accuracy against cost as SVG: axes, fronts, marks, names. Drawn anew whenever a choice changes.
import { amount, evenTicks, front, logTicks, nearest, placeLabels, stairs } from "./tradeoff_geometry.js";

const MARGIN = { left: 54, right: 16, top: 14, bottom: 44 };
const RADIUS = 5, TEXT = 11;
const SHAPES = {
  o: "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0", s: "M-4,-4h8v8h-8z", D: "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
  "^": "M0,-5L5,4H-5z", v: "M0,5L5,-4H-5z", X: "M-4,-4L4,4M-4,4L4,-4",
};

const svg = (tag, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

function scalesOf(rows, cost, width, height) {
  const costs = rows.map((row) => row[cost]);
  const shares = rows.flatMap((row) => [row.accuracy, row.low ?? row.accuracy, row.high ?? row.accuracy]);
  const cheapest = Math.min(...costs), dearest = Math.max(...costs);
  const room = Math.max((dearest / cheapest) ** 0.07, 1.15);
  const x = [cheapest / room, dearest * room];
  const span = Math.max(...shares) - Math.min(...shares) || 0.01;
  const y = [Math.min(...shares) - 0.06 * span, Math.max(...shares) + 0.06 * span];
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  return {
    x, y, left, right, top, bottom,
    across: (value) => left + ((right - left) * Math.log(value / x[0])) / Math.log(x[1] / x[0]),
    up: (share) => bottom - ((bottom - top) * (share - y[0])) / (y[1] - y[0]),
  };
}

function drawAxes(area, at, title) {
  for (const share of evenTicks(at.y[0] * 100, at.y[1] * 100, 7)) {
    const y = at.up(share / 100);
    area.append(svg("line", { x1: at.left, x2: at.right, y1: y, y2: y, class: "vl-line" }));
    area.append(svg("text", { x: at.left - 8, y: y + 4, "text-anchor": "end" }, `${+share.toFixed(2)} %`));
  }
  for (const value of logTicks(...at.x)) {
    const x = at.across(value);
    area.append(svg("line", { x1: x, x2: x, y1: at.top, y2: at.bottom, class: "vl-line" }));
    area.append(svg("text", { x, y: at.bottom + 16, "text-anchor": "middle" }, amount(value)));
  }
  const middle = (at.left + at.right) / 2;
  area.append(svg("text", { x: middle, y: at.bottom + 36, "text-anchor": "middle", class: "vl-title" }, title));
}

const cornersOf = (rows, cost, at) => front(rows, cost).map((row) => [at.across(row[cost]), at.up(row.accuracy)]);

function drawFront(area, corners, style) {
  if (corners.length < 2) return;
  const path = corners.map(([x, y], i) => (i ? `H${x}V${y}` : `M${x},${y}`)).join("");
  area.append(svg("path", { d: path, class: `vl-front ${style}` }));
}

function drawMark(area, row, x, y, at, [colour, shape]) {
  const made = svg("g", { class: "vl-mark", "data-model": row.model, style: `--own:${colour}` });
  if (row.low !== null) made.append(svg("line", { x1: x, x2: x, y1: at.up(row.low), y2: at.up(row.high) }));
  made.append(svg("path", { d: SHAPES[shape], transform: `translate(${x},${y})`, class: row.more_data ? "vl-hollow" : "" }));
  area.append(made);
}

function drawNames(area, rows, points, cost, at, fronts) {
  const texts = rows.map((row) => svg("text", { class: "vl-name" }, row.short));
  area.append(...texts);
  const sizes = texts.map((text) => [text.getComputedTextLength(), TEXT]);
  const best = new Set([...front(rows.filter((row) => !row.more_data), cost), ...front(rows, cost)]);
  const order = [...new Set([...best, ...rows])].map((row) => rows.indexOf(row));
  const placed = placeLabels(points, sizes, [at.left, at.top - 8, at.right, at.bottom], order,
    { radius: RADIUS, lines: fronts.flatMap(stairs), important: best.size });
  texts.forEach((text, i) => {
    if (!placed.has(i)) return text.remove();
    const { box, leader } = placed.get(i);
    text.setAttribute("x", box[0]);
    text.setAttribute("y", box[1] + TEXT - 2);
    if (!leader) return;
    const [x, y] = nearest(points[i], box);
    area.prepend(svg("line", { x1: points[i][0], y1: points[i][1], x2: x, y2: y, class: "vl-leader" }));
  });
}

// Draws the rows into an svg element; returns where each lies, [x, y] in its pixels, the cheapest first.
export function drawPlot(target, rows, cost, title, families) {
  const { width, height } = target.getBoundingClientRect();
  target.replaceChildren();
  target.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (!width) return [];
  if (!rows.length) {
    target.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, `nothing to show: ${title}`));
    return [];
  }
  const ordered = [...rows].sort((a, b) => a[cost] - b[cost]);
  const at = scalesOf(ordered, cost, width, height);
  drawAxes(target, at, title);
  const own = ordered.filter((row) => !row.more_data);
  const fronts = [cornersOf(own, cost, at), cornersOf(ordered, cost, at)];
  if (own.length < ordered.length) drawFront(target, fronts[1], "vl-all");
  drawFront(target, fronts[0], "");
  const points = ordered.map((row) => [at.across(row[cost]), at.up(row.accuracy)]);
  ordered.forEach((row, i) => drawMark(target, row, ...points[i], at, families[row.family] ?? families.other));
  drawNames(target, ordered, points, cost, at, fronts);
  return ordered.map((row, i) => ({ row, point: points[i] }));
}
