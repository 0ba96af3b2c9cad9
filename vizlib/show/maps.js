// Maps over photographs in the browser: raw values in, colours out, one cursor for all maps of a photograph.
// One module without dependencies: inlined in the saved report, and the front end of the explorer's widget.

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

const number = (value) => {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e4) ? value.toExponential(2) : String(+value.toPrecision(3));
};

// Smallest and largest value to draw: from zero unless asked otherwise; signed maps symmetric round zero.
function limits(cells, fromZero) {
  const all = cells.flatMap((cell) => [cell.low, cell.high]);
  const low = fromZero ? Math.min(0, ...all) : Math.min(...all), high = Math.max(...all);
  if (cells.some((cell) => cell.signed)) {
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
  const [low, high] = limits(settings.shared ? cell.peers : [cell], settings.zero);
  const table = cell.tables[low < 0 && -low === high ? "diverging" : "sequential"];
  const [rows, columns] = cell.shape;
  canvas.width = settings.smooth ? 192 : columns;
  canvas.height = settings.smooth ? Math.round(192 * cell.aspect) : rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0, p = 0; i < canvas.height; i++) {
    for (let j = 0; j < canvas.width; j++, p += 4) {
      const value = sample(cell, (i + 0.5) / canvas.height, (j + 0.5) / canvas.width, settings.smooth);
      const shade = 3 * Math.round(255 * Math.min(Math.max((value - low) / (high - low), 0), 1));
      pixels.data.set([table[shade], table[shade + 1], table[shade + 2], 255], p);
    }
  }
  context.putImageData(pixels, 0, 0);
  const stops = Array.from({ length: 17 }, (_, k) => {
    const shade = 3 * Math.round((255 * k) / 16);
    return `rgb(${table[shade]} ${table[shade + 1]} ${table[shade + 2]})`;
  });
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  scale.forEach((place, k) => (place.textContent = number(low + ((high - low) * k) / 2)));
}

function prepare(root, state) {
  const tables = { sequential: bytes(state.tables.sequential), diverging: bytes(state.tables.diverging) };
  const cells = [...root.querySelectorAll("[data-cell]")].map((figure) => {
    const cell = { ...state.cells[figure.dataset.cell], figure, tables, peers: [] };
    cell.values = new Float32Array(bytes(cell.values).buffer);
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

// Shows the point in every map of the same photograph; null takes it away.
function point(cells, sheet, place) {
  for (const cell of cells.filter((c) => c.sheet === sheet)) {
    cell.cursor.hidden = !place;
    cell.readout.textContent = place ? `${number(sample(cell, ...place, false))} ${cell.unit}` : cell.hint;
    if (!place) continue;
    cell.cursor.style.top = `${100 * place[0]}%`;
    cell.cursor.style.left = `${100 * place[1]}%`;
  }
}

function follow(root, cells, speak) {
  const pinned = new Map(); // sheet -> (row, column) in [0, 1]
  const say = (cell, [row, column]) =>
    (speak.textContent = `${cell.name}: ${number(sample(cell, row, column, false))} ${cell.unit} at row ` +
      `${row.toFixed(2)}, column ${column.toFixed(2)}`);
  for (const cell of cells) {
    const where = (event) => {
      const box = cell.stack.getBoundingClientRect();
      const inside = (v) => Math.min(Math.max(v, 0), 0.9999);
      return [inside((event.clientY - box.top) / box.height), inside((event.clientX - box.left) / box.width)];
    };
    cell.stack.addEventListener("pointermove", (event) => point(cells, cell.sheet, where(event)));
    cell.stack.addEventListener("pointerleave", () => point(cells, cell.sheet, pinned.get(cell.sheet) ?? null));
    cell.stack.addEventListener("click", (event) => {
      pinned.set(cell.sheet, where(event));
      point(cells, cell.sheet, pinned.get(cell.sheet));
      say(cell, pinned.get(cell.sheet));
    });
    cell.stack.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation(); // a notebook would move its cell selection
      const [row, column] = pinned.get(cell.sheet) ?? [0.5, 0.5];
      const moved = [row, column].map((v, axis) => {
        const cellsAcross = cell.shape[axis];
        const next = Math.floor(v * cellsAcross) + step[axis];
        return (Math.min(Math.max(next, 0), cellsAcross - 1) + 0.5) / cellsAcross;
      });
      pinned.set(cell.sheet, moved);
      point(cells, cell.sheet, moved);
      say(cell, moved);
    });
  }
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    pinned.clear();
    for (const cell of cells) point(cells, cell.sheet, null);
  });
}

const START = { opacity: 0.6, smooth: true, zero: true, shared: false, colour: false };

export function mount(root, state, settings = { ...START }) {
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
  for (const button of root.querySelectorAll("[data-theme-switch]")) {
    const dark = () => getComputedStyle(root).colorScheme === "dark";
    button.addEventListener("click", () => (root.dataset.theme = dark() ? "light" : "dark"));
  }
  follow(root, cells, root.querySelector(".vl-speak"));
  show();
  return { cells, settings };
}

// The front end of an anywidget whose `content` is {html, state}; the settings outlive a change of content.
export default {
  render({ model, el }) {
    let settings;
    const fill = () => {
      const root = document.createElement("div");
      root.className = "vl-root";
      root.innerHTML = model.get("content").html;
      el.replaceChildren(root);
      settings = mount(root, model.get("content").state, settings).settings;
    };
    model.on("change:content", fill);
    fill();
    return () => model.off("change:content", fill);
  },
};
