// Maps over photographs in the browser: raw values in, colours out, one cursor for all maps of a photograph.
import {
  ARROWS, colourTables, colourText, intoBox, number, numbers, outOfBox, pointIn, shadeOf, stepped, switchTheme,
} from "./page.js";

// Smallest and largest value to draw: from zero unless asked otherwise; signed maps symmetric round zero.
function limits(cells, fromZero, signed) {
  const all = cells.flatMap((cell) => [cell.low, cell.high]);
  const low = fromZero ? Math.min(0, ...all) : Math.min(...all), high = Math.max(...all);
  if (signed) {
    const far = Math.max(-low, high) || 1;
    return [-far, far];
  }
  return [low, high > low ? high : low + 1];
}

// The value at a point in [0, 1] x [0, 1]: that of its cell, or blended between the cells' centres.
function sample(cell, row, column, smooth) {
  const [rows, columns] = cell.shape;
  const at = (i, j) =>
    cell.values[Math.min(Math.max(i, 0), rows - 1) * columns + Math.min(Math.max(j, 0), columns - 1)];
  if (!smooth) return at(Math.floor(row * rows), Math.floor(column * columns));
  const y = row * rows - 0.5, x = column * columns - 0.5;
  const i = Math.floor(y), j = Math.floor(x), v = y - i, u = x - j;
  return (1 - v) * ((1 - u) * at(i, j) + u * at(i, j + 1)) + v * ((1 - u) * at(i + 1, j) + u * at(i + 1, j + 1));
}

function draw(cell, settings) {
  const { canvas, bar, scale } = cell;
  const signed = cell.peers.some((peer) => peer.signed);  // maps of a method are coloured alike
  const [low, high] = limits(settings.shared ? cell.peers : [cell], settings.zero, signed);
  const table = cell.tables[low < 0 && -low === high ? "diverging" : "sequential"];
  const [rows, columns] = cell.shape;
  canvas.width = settings.smooth ? 192 : columns;
  canvas.height = settings.smooth ? Math.round(192 * cell.aspect) : rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0, p = 0; i < canvas.height; i++) {
    for (let j = 0; j < canvas.width; j++, p += 4) {
      const value = sample(cell, (i + 0.5) / canvas.height, (j + 0.5) / canvas.width, settings.smooth);
      const shade = shadeOf((value - low) / (high - low));
      pixels.data.set([table[shade], table[shade + 1], table[shade + 2], 255], p);
    }
  }
  context.putImageData(pixels, 0, 0);
  const stops = Array.from({ length: 17 }, (_, k) => colourText(table, k / 16));
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  scale.forEach((place, k) => (place.textContent = number(low + ((high - low) * k) / 2)));
}

function prepare(root, state) {
  const tables = colourTables(state.tables);
  const cells = [...root.querySelectorAll("[data-cell]")].map((figure) => {
    const cell = { ...state.cells[figure.dataset.cell], figure, tables, peers: [] };
    cell.values = numbers(Float32Array, cell.values);
    cell.stack = figure.querySelector(".vl-stack");
    cell.canvas = figure.querySelector("canvas");
    cell.cursor = figure.querySelector(".vl-cursor");
    cell.bar = figure.querySelector(".vl-bar");
    cell.scale = [...figure.querySelectorAll(".vl-scale span")];
    cell.readout = figure.querySelector(".vl-value");
    figure.querySelector("img").src = state.images[cell.image];
    return cell;
  });
  for (const cell of cells) cell.peers = cells.filter((c) => c.sheet === cell.sheet && c.method === cell.method);
  return cells;
}

// Shows a point of the photograph in every map of it; null takes it away.
function point(cells, sheet, place) {
  for (const cell of cells.filter((c) => c.sheet === sheet)) {
    const own = place && intoBox(cell.box, place);
    cell.cursor.hidden = !own;
    cell.readout.textContent = own ? reading(cell, own) : place ? "not in what this model sees" : cell.hint;
    if (!own) continue;
    cell.cursor.style.top = `${100 * own[0]}%`;
    cell.cursor.style.left = `${100 * own[1]}%`;
  }
}

const reading = (cell, own) => `${number(sample(cell, ...own, false))} ${cell.unit}`;

function follow(root, cells, speak) {
  const pinned = new Map(); // sheet -> [row, column] of the photograph
  const pin = (cell, own) => {
    pinned.set(cell.sheet, outOfBox(cell.box, own));
    point(cells, cell.sheet, pinned.get(cell.sheet));
    const [row, column] = own.map((v) => v.toFixed(2));
    speak.textContent = `${cell.name}: ${reading(cell, own)} at row ${row}, column ${column}`;
  };
  for (const cell of cells) {
    const where = (event) => pointIn(cell.stack, event);
    cell.stack.addEventListener("pointermove", (event) => point(cells, cell.sheet, outOfBox(cell.box, where(event))));
    cell.stack.addEventListener("pointerleave", () => point(cells, cell.sheet, pinned.get(cell.sheet) ?? null));
    cell.stack.addEventListener("click", (event) => pin(cell, where(event)));
    cell.stack.addEventListener("keydown", (event) => {
      if (!(event.key in ARROWS)) return;
      event.preventDefault();
      event.stopPropagation(); // a notebook would move its cell selection
      const from = pinned.has(cell.sheet) ? intoBox(cell.box, pinned.get(cell.sheet)) : null;
      pin(cell, stepped(from ?? [0.5, 0.5], cell.shape, event.key));
    });
  }
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    pinned.clear();
    for (const cell of cells) point(cells, cell.sheet, null);
  });
}

const START = { opacity: 0.6, smooth: true, zero: true, shared: false, colour: false };

export function mountMaps(root, state, settings = { ...START }) {
  const cells = prepare(root, state);
  const show = () => {
    root.style.setProperty("--vl-opacity", settings.opacity);
    root.classList.toggle("vl-colour", settings.colour);
    for (const cell of cells) draw(cell, settings);
  };
  for (const control of root.querySelectorAll("[data-setting]")) {
    const name = control.dataset.setting;
    const key = control.type === "checkbox" ? "checked" : "value";
    control[key] = settings[name];
    control.addEventListener("input", () => {
      settings[name] = control[key];
      if (name === "opacity") root.style.setProperty("--vl-opacity", settings.opacity);
      else show();
    });
  }
  switchTheme(root);
  follow(root, cells, root.querySelector(".vl-speak"));
  show();
  return { cells, settings };
}
