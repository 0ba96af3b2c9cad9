// Hover any point of a photograph and see what the token there attends to, in one model or several side by side.
// One module without dependencies: inlined into saved pages, and the front end of the widget.
//
// state.panels: one object per model as made by hover_state in hover.py. Bytes arrive as DataView (widget) or base64
// text (page). Points are [row, column] in [0, 1]; all panels share one cursor by its place in the image.

const WIDTH = 320; // of a photograph on the page, in CSS pixels
const THUMB = 26;
const MEAN = -1; // the head that is the mean of all heads

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const number = (value) => {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e4) ? value.toExponential(1) : String(+value.toPrecision(3));
};

function bytes(value) {
  if (typeof value !== "string") return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const text = atob(value), found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}
// A typed view needs an aligned start, which a part of a message does not have: copy.
const numbers = (Kind, value) => new Kind(bytes(value).slice().buffer);

// ---- one attention operation ------------------------------------------------------------------------------------

// The operation with its places ready to look up: `slots` lists [group, slot] of each query token.
function unpackPlaces(layer) {
  if (layer.slots) return layer;
  const [groups, , queries] = layer.shape;
  const index = numbers(Int32Array, layer.queries.index);
  layer.slots = new Map();
  for (let at = 0; at < groups * queries; at++) {
    if (index[at] < 0) continue;
    if (!layer.slots.has(index[at])) layer.slots.set(index[at], []);
    layer.slots.get(index[at]).push([Math.floor(at / queries), at % queries]);
  }
  layer.keyIndex = numbers(Int32Array, layer.keys.index);
  layer.hasPatches = layer.queries.grid !== null && [...layer.slots.keys()].some((token) => token >= layer.queries.prefix);
  return layer;
}

// Makes `weights` of the rows that have arrived; false where there are none.
function unpackRows(layer) {
  if (layer.rows) {
    layer.weights = bytes(layer.rows);
    layer.scales = numbers(Float32Array, layer.scale);
    layer.prefixes = numbers(Float32Array, layer.prefixMass);
    layer.top = layer.scales.reduce((a, b) => Math.max(a, b), 0);
    layer.rows = null;
  }
  return Boolean(layer.weights);
}

// What one query token attends to: weights per key cell, NaN where the operation has no key for this query.
function attend(layer, head, token) {
  const [, heads, queries, keys] = layer.shape;
  const [r, s] = layer.keys.grid, cells = new Float32Array(r * s).fill(NaN);
  const slots = layer.slots.get(token) ?? [];
  const chosen = head === MEAN ? [...Array(heads).keys()] : [head];
  const share = 1 / (slots.length * chosen.length); // a token in several slots is shared between them
  let prefix = 0;
  for (const [group, slot] of slots) {
    for (const a of chosen) {
      const row = (group * heads + a) * queries + slot, unit = (layer.scales[row] / 255) * share;
      prefix += layer.prefixes[row] * share;
      for (let k = 0; k < keys; k++) {
        const cell = layer.keyIndex[group * keys + k] - layer.keys.prefix;
        if (cell >= 0) cells[cell] = (cells[cell] || 0) + layer.weights[row * keys + k] * unit;
      }
    }
  }
  return { cells, prefix, found: slots.length > 0 };
}

const largest = (cells) => cells.reduce((a, b) => (b > a ? b : a), 0); // NaN is never larger

// ---- drawing ----------------------------------------------------------------------------------------------------

const small = element("canvas"); // one for all drawings: made anew for each it would keep the garbage collector busy

// A picture of one pixel per cell, until the next is made; cells without a value stay transparent.
function colourCells(cells, [r, s], top, table) {
  [small.width, small.height] = [s, r];
  const context = small.getContext("2d"), image = context.createImageData(s, r), { data } = image;
  for (let i = 0; i < r * s; i++) {
    if (Number.isNaN(cells[i])) continue;
    const shade = 3 * Math.round(255 * Math.min(cells[i] / (top || 1), 1));
    for (let c = 0; c < 3; c++) data[4 * i + c] = table[shade + c];
    data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return small;
}

function outline(context, canvas, [r, s], cell, pinned) {
  const [w, h] = [canvas.width / s, canvas.height / r];
  const box = [(cell % s) * w, Math.floor(cell / s) * h, w, h];
  for (const [colour, wide] of [["#000", 5], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.strokeRect(...box);
  }
  if (!pinned) return;
  context.beginPath();
  context.arc(box[0] + w / 2, box[1] + h / 2, Math.max(3, Math.min(w, h) / 5), 0, 7);
  context.fillStyle = "#fff";
  context.fill();
  context.stroke();
}

function drawBar(panel, table) {
  const { bar } = panel, context = bar.getContext("2d");
  for (let x = 0; x < bar.width; x++) {
    const shade = 3 * Math.round((255 * x) / (bar.width - 1));
    context.fillStyle = `rgb(${table[shade]} ${table[shade + 1]} ${table[shade + 2]})`;
    context.fillRect(x, 0, 1, bar.height);
  }
}

// A row per layer, a column per head: what the pinned point attends to, else what the thumbnails were made of.
function drawThumbs(panel, view, table) {
  const { layers, aspect } = panel.data, columns = Math.max(...layers.map((layer) => layer.shape[1]));
  panel.thumb = [Math.round(THUMB * aspect), THUMB];
  const [high, wide] = panel.thumb;
  [panel.thumbs.width, panel.thumbs.height] = [columns * wide, layers.length * high];
  const context = panel.thumbs.getContext("2d");
  context.imageSmoothingEnabled = false;
  layers.forEach((layer, row) => {
    context.fillStyle = "#8884"; // shows where a window is, and where there is nothing
    for (let head = 0; head < layer.shape[1]; head++) context.fillRect(head * wide, row * high, wide - 2, high - 2);
    const token = view.pin && unpackPlaces(layer).hasPatches ? tokenAt(layer, view.pin) : null;
    if (token !== null && !unpackRows(layer)) return;
    const still = bytes(layer.thumbs), [r, s] = layer.keys.grid;
    for (let head = 0; head < layer.shape[1]; head++) {
      const made = still.subarray(head * r * s, (head + 1) * r * s);
      const cells = token === null ? Float32Array.from(made) : attend(layer, head, token).cells;
      const picture = colourCells(cells, [r, s], largest(cells), table);
      context.drawImage(picture, head * wide, row * high, wide - 2, high - 2);
    }
  });
  const row = view.layers[panel.position], head = view.heads[panel.position];
  const [from, count] = head === MEAN ? [0, layers[row].shape[1]] : [head, 1];
  context.strokeStyle = "#2f7fd8";
  context.lineWidth = 2;
  context.strokeRect(from * wide + 1, row * high + 1, count * wide - 4, high - 4);
}

// ---- one model --------------------------------------------------------------------------------------------------

const cellAt = ([r, s], [row, column]) =>
  Math.min(Math.floor(row * r), r - 1) * s + Math.min(Math.floor(column * s), s - 1);
const tokenAt = (layer, point) => layer.queries.prefix + cellAt(layer.queries.grid, point);
const place = (cell, [, s]) => `row ${Math.floor(cell / s) + 1}, column ${(cell % s) + 1}`;

function makePanel(data, position) {
  const ratio = window.devicePixelRatio || 1, height = Math.round(WIDTH * data.aspect);
  const photo = element("canvas", {
    class: "vh-photo", tabindex: "0", role: "application", width: Math.round(WIDTH * ratio),
    height: Math.round(height * ratio), style: `width:${WIDTH}px;height:${height}px`,
    "aria-label": `${data.model}: attention. Arrow keys move the query, Enter pins it, Escape clears.`,
  });
  const options = data.layers.map((layer, i) => element("option", { value: i }, layer.name));
  const panel = {
    data, position, photo,
    image: new Image(),
    layer: element("select", { "aria-label": `layer of ${data.model}` }, ...options),
    head: element("select", { "aria-label": `head of ${data.model}` }),
    bar: element("canvas", { class: "vh-bar", width: WIDTH, height: 12 }),
    numbers: element("div", { class: "vh-numbers" }, element("span"), element("span"), element("span")),
    text: element("div", { class: "vh-text" }),
    thumbs: element("canvas", { class: "vh-thumbs", "aria-hidden": "true" }),
    thumbsOf: element("div"),
  };
  panel.figure = element(
    "figure", { style: `width:${WIDTH}px` },
    element("figcaption", {}, data.model, element("span", { title: data.caption }, data.caption)),
    photo, panel.bar, panel.numbers,
    element("div", { class: "vh-row" }, panel.layer, panel.head),
    panel.text, panel.thumbsOf, element("div", { class: "vh-scroll" }, panel.thumbs),
  );
  return panel;
}

const layerOf = (panel, view) => unpackPlaces(panel.data.layers[view.layers[panel.position]]);

// The query token of a panel: the prefix token asked for, the patch under the cursor, or null.
function queryOf(layer, view) {
  const point = view.pin ?? view.cursor;
  if (view.query !== "point") return layer.slots.has(+view.query) ? +view.query : null;
  if (!layer.hasPatches) return 0; // class attention: nothing else asks
  return point && layer.queries.grid ? tokenAt(layer, point) : layer.slots.has(0) && layer.queries.prefix ? 0 : null;
}

const special = (layer, token) => (layer.queries.prefix > 1 ? `${layer.queries.called} ${token}` : layer.queries.called);

function describe(layer, token) {
  const { prefix, grid } = layer.queries;
  return token < prefix ? special(layer, token) : place(token - prefix, grid);
}

function explain(panel, layer, token, heat, view) {
  if (!layer.weights) return panel.waiting ? "Loading this layer …" : "The weights of this layer are not in this page.";
  if (token === null) return view.query === "point" ? "Point at the photograph." : "This layer has no such query.";
  if (!heat.found) return `No token at ${describe(layer, token)}: this layer does not read it.`;
  const top = largest(heat.cells), best = heat.cells.indexOf(top), grid = layer.keys.grid;
  const strongest = best < 0 ? "no patch" : `${place(best, grid)} of ${grid.join(" × ")}: ${number(top)}`;
  const outside = layer.keys.prefix ? `; on prefix tokens ${(100 * heat.prefix).toFixed(1)} %` : "";
  return `${view.pin ? "pinned, " : ""}${describe(layer, token)} attends most to ${strongest}${outside}.`;
}

function drawPanel(panel, view, tables) {
  const layer = layerOf(panel, view), token = queryOf(layer, view), head = view.heads[panel.position];
  const heat = unpackRows(layer) && token !== null ? attend(layer, head, token) : null;
  const top = view.scale === "own" ? largest(heat?.cells ?? []) : layer.top ?? 0;
  const context = panel.photo.getContext("2d"), { width, height } = panel.photo;
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = true;
  context.clearRect(0, 0, width, height);
  if (panel.image.complete && panel.image.naturalWidth) context.drawImage(panel.image, 0, 0, width, height);
  if (heat?.found) {
    context.imageSmoothingEnabled = false;
    context.globalAlpha = view.opacity;
    context.drawImage(colourCells(heat.cells, layer.keys.grid, top, tables[view.colours]), 0, 0, width, height);
    context.globalAlpha = 1;
  }
  if (token !== null && token >= layer.queries.prefix) {
    outline(context, panel.photo, layer.queries.grid, token - layer.queries.prefix, view.pin);
  }
  [0, top / 2, top].forEach((value, i) => (panel.numbers.children[i].textContent = number(value)));
  panel.text.textContent = explain(panel, layer, token, heat, view);
}

// ---- all of them ------------------------------------------------------------------------------------------------

function firstView(panels) {
  return {
    layers: panels.map((panel) => panel.layers.length - 1), heads: panels.map(() => MEAN), query: "point",
    cursor: null, pin: null, scale: "own", colours: Object.keys(panels[0].colours)[0], opacity: 0.7,
  };
}

// asks: the layer with the most prefix tokens among its queries.
function makeControls(view, colours, asks) {
  const choice = (name, label, options) => {
    const made = element("select", { "data-setting": name, "aria-label": label });
    made.append(...options.map(([value, text]) => element("option", { value }, text)));
    made.value = view[name];
    return element("label", {}, label, made);
  };
  const tokens = Array.from({ length: asks.queries.prefix }, (_, i) => [String(i), special(asks, i)]);
  const slider = { type: "range", min: 0, max: 1, step: 0.05, "data-setting": "opacity", value: view.opacity };
  return element(
    "div", { class: "vh-row", role: "group", "aria-label": "how attention is drawn" },
    choice("query", "query", [["point", "point at the photo"], ...tokens]),
    choice("scale", "colours up to", [["own", "this row's maximum"], ["layer", "the layer's maximum"]]),
    choice("colours", "colours", colours.map((name) => [name, name])),
    element("label", {}, "opacity", element("input", slider)),
    element("button", { type: "button", "data-action": "save" }, "save PNG"),
  );
}

// Draws into `el`; calls onChange({view}) when something is chosen or pinned and onChange({fetch: {panel, layer}}) when
// a layer's weights are missing; never while hovering. Returns {receive, show, remove}.
export function mount(el, state, onChange = null) {
  const panels = state.panels.map(makePanel), view = { ...firstView(state.panels), ...state.view };
  const tables = Object.fromEntries(Object.entries(state.panels[0].colours).map(([name, raw]) => [name, bytes(raw)]));
  const every = state.panels.flatMap((panel) => panel.layers);
  const asks = every.reduce((a, b) => (b.queries.prefix > a.queries.prefix ? b : a));
  const controls = makeControls(view, Object.keys(tables), asks);
  const live = element("div", { class: "vh-live", "aria-live": "polite" });
  const root = element("div", { class: "vizlib-hover" }, controls);
  root.append(element("div", { class: "vh-panels" }, ...panels.map((panel) => panel.figure)), live);
  let speaking = null;

  const draw = () => panels.forEach((panel) => drawPanel(panel, view, tables));
  const drawStill = () => panels.forEach((panel) => {
    drawBar(panel, tables[view.colours]);
    drawThumbs(panel, view, tables[view.colours]);
    const kinds = new Set(panel.data.layers.map((layer) => layer.thumbsOf));
    panel.thumbsOf.textContent = `all layers (rows) and heads, ${view.pin ? "the pinned point" : [...kinds].join(" or ")}`;
  });
  const speak = () => { // once the query rests: a screen reader should not follow every pixel of the pointer
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      live.textContent = panels.map((panel) => `${panel.data.model}: ${panel.text.textContent}`).join(" ");
    }, 250);
  };
  const need = (panel) => {
    const at = view.layers[panel.position], layer = panel.data.layers[at];
    panel.waiting = onChange !== null && !layer.rows && !layer.weights;
    if (panel.waiting) onChange({ fetch: { panel: panel.position, layer: at } });
  };
  const choose = (changes) => {
    Object.assign(view, changes);
    if (!("opacity" in changes)) drawStill();
    draw();
    speak();
    onChange?.({ view: structuredClone(view) });
  };
  const hoverAt = (point) => {
    if (view.pin) return;
    view.cursor = point;
    draw();
    speak();
  };
  const fillHeads = (panel) => {
    const count = panel.data.layers[view.layers[panel.position]].shape[1];
    const heads = Array.from({ length: count }, (_, i) => element("option", { value: i }, `head ${i}`));
    panel.head.replaceChildren(element("option", { value: MEAN }, "mean over heads"), ...heads);
    if (view.heads[panel.position] >= count) view.heads[panel.position] = MEAN;
    panel.head.value = view.heads[panel.position];
    panel.layer.value = view.layers[panel.position];
  };
  const chooseLayer = (panel, layer, head) => {
    view.layers[panel.position] = layer;
    view.heads[panel.position] = head;
    fillHeads(panel);
    need(panel);
    choose({});
  };

  const step = (panel, key) => {
    const layer = layerOf(panel, view), [r, s] = layer.queries.grid ?? layer.keys.grid;
    const cell = cellAt([r, s], view.pin ?? view.cursor ?? [0.5, 0.5]);
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    const row = Math.min(Math.max(Math.floor(cell / s) + down, 0), r - 1);
    const column = Math.min(Math.max((cell % s) + right, 0), s - 1);
    const point = [(row + 0.5) / r, (column + 0.5) / s];
    if (view.pin) choose({ pin: point, cursor: point });
    else hoverAt(point);
  };
  const clear = () => choose({ pin: null, cursor: null, query: (controls.querySelector("[data-setting=query]").value = "point") });
  const pointOf = (panel, event) => {
    const box = panel.photo.getBoundingClientRect(), inside = (v) => Math.min(Math.max(v, 0), 1);
    return [inside((event.clientY - box.top) / box.height), inside((event.clientX - box.left) / box.width)];
  };
  const listen = (panel) => {
    panel.photo.addEventListener("pointermove", (event) => hoverAt(pointOf(panel, event)));
    panel.photo.addEventListener("pointerleave", () => hoverAt(null));
    panel.photo.addEventListener("click", (event) => {
      const point = pointOf(panel, event);
      choose({ pin: point, cursor: point });
    });
    panel.photo.addEventListener("keydown", (event) => {
      if (event.key.startsWith("Arrow")) step(panel, event.key);
      else if (event.key === "Escape") clear();
      else if (event.key === "Enter" || event.key === " ") choose({ pin: view.pin ? null : view.cursor });
      else return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab has its own meaning for these keys
    });
    panel.layer.addEventListener("change", () => chooseLayer(panel, +panel.layer.value, view.heads[panel.position]));
    panel.head.addEventListener("change", () => chooseLayer(panel, +panel.layer.value, +panel.head.value));
    panel.thumbs.addEventListener("click", (event) => {
      const box = panel.thumbs.getBoundingClientRect(), [high, wide] = panel.thumb;
      const layer = Math.floor((event.clientY - box.top) / high), head = Math.floor((event.clientX - box.left) / wide);
      if (head < (panel.data.layers[layer]?.shape[1] ?? 0)) chooseLayer(panel, layer, head);
    });
  };
  const save = () => {
    const link = element("a", { download: `${panels.map((p) => p.data.model).join("-").replace(/[^\w.-]+/g, "_")}.png` });
    link.href = compose(panels, view).toDataURL("image/png");
    link.click();
  };

  controls.addEventListener("input", ({ target }) => {
    const name = target.dataset.setting;
    choose({ [name]: name === "opacity" ? +target.value : target.value });
  });
  controls.querySelector("[data-action=save]").addEventListener("click", save);
  for (const panel of panels) {
    listen(panel);
    fillHeads(panel);
    need(panel);
    panel.image.onload = draw;
    panel.image.src = URL.createObjectURL(new Blob([bytes(panel.data.photo)], { type: "image/png" }));
  }
  drawStill();
  draw();
  el.append(root);

  return {
    receive: ({ panel, layer }, [rows, scale, prefixMass]) => {
      Object.assign(panels[panel].data.layers[layer], { rows, scale, prefixMass });
      draw();
    },
    show: (wanted) => {
      if (JSON.stringify({ ...view, ...wanted }) === JSON.stringify(view)) return; // our own change, come back
      Object.assign(view, wanted);
      panels.forEach(fillHeads);
      panels.forEach(need);
      drawStill();
      draw();
    },
    remove: () => {
      panels.forEach((panel) => URL.revokeObjectURL(panel.image.src));
      root.remove();
    },
  };
}

// The photographs with their captions and colour bars as one picture.
function compose(panels, view) {
  const gap = 12, line = 18, [{ photo }] = panels, scale = photo.width / WIDTH;
  const tall = Math.max(...panels.map((panel) => panel.photo.height / scale));
  const page = element("canvas", { width: (panels.length * (WIDTH + gap) + gap) * scale, height: (tall + 6 * line) * scale });
  const context = page.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, page.width, page.height);
  context.fillStyle = "#000";
  panels.forEach((panel, i) => {
    const left = gap + i * (WIDTH + gap), below = line + panel.photo.height / scale;
    context.font = "600 13px sans-serif";
    context.fillText(`${panel.data.model}, ${panel.data.caption}`, left, line - 5, WIDTH);
    context.drawImage(panel.photo, left, line, WIDTH, panel.photo.height / scale);
    context.drawImage(panel.bar, left, below + 4, WIDTH, 12);
    context.font = "12px sans-serif";
    ["left", "center", "right"].forEach((align, k) => {
      context.textAlign = align;
      context.fillText(panel.numbers.children[k].textContent, left + (k * WIDTH) / 2, below + 30);
    });
    context.textAlign = "left";
    const head = view.heads[i] === MEAN ? "mean over heads" : `head ${view.heads[i]}`;
    context.fillText(`${layerOf(panel, view).name}, ${head}`, left, below + 48, WIDTH);
    context.fillText(panel.text.textContent, left, below + 66, WIDTH);
  });
  return page;
}

// The widget's front end.
export default {
  render({ model, el }) {
    const shown = mount(el, { ...model.get("state"), view: model.get("view") }, ({ view, fetch }) => {
      if (fetch) return model.send({ fetch });
      model.set("view", view);
      model.save_changes();
    });
    const receive = (message, buffers) => shown.receive(message, buffers);
    const show = () => shown.show(model.get("view"));
    model.on("msg:custom", receive);
    model.on("change:view", show);
    return () => {
      model.off("msg:custom", receive);
      model.off("change:view", show);
      shown.remove();
    };
  },
};
