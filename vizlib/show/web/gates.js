// Gates of many photographs: channel gates as heat strips by class, their difference, maps of spatial gates.
//
// state: as made by gates_state in gates.py; values are float32, one row of `shape` per photograph. Photographs of a
// class stand side by side.
import { ARROWS, colourTables, colourText, element, number, numbers, pointIn, shadeOf } from "./page.js";
import { SCALES, fillBar, limits, makeBar } from "./gates_scale.js";
import { SpatialGates } from "./gates_spatial.js";

const ROW = { classes: 20, photographs: 9 }; // heights in CSS pixels
const ORDERS = {
  this: "most open for this class", difference: "difference", spread: "most different by class", channel: "channel number",
};

const mean = (rows, count) => {
  const sum = new Float32Array(count);
  for (const row of rows) for (let c = 0; c < count; c++) sum[c] += row[c] / rows.length;
  return sum;
};

// A layer with its values ready to look up: a row per photograph, a mean per class.
function unpack(layer, classes) {
  if (layer.rows) return layer;
  const count = layer.shape[0], all = numbers(Float32Array, layer.values);
  layer.rows = classes.map((_, i) => all.subarray(i * count, (i + 1) * count));
  layer.means = new Map([...new Set(classes)].map((name) => [name, mean(layer.rows.filter((_, i) => classes[i] === name), count)]));
  layer.overall = mean([...layer.means.values()], count);
  return layer;
}

const deviation = (layer, c) =>
  Math.hypot(...[...layer.means.values()].map((of) => of[c] - layer.overall[c])) / Math.sqrt(layer.means.size);

class ChannelGates {
  constructor(state, view, tables, choose) {
    Object.assign(this, { state, view, tables, choose, names: [...new Set(state.classes)], at: null });
    this.layers = element("div", { class: "vg-layers", role: "listbox", "aria-label": "layer" });
    this.labels = element("div", { class: "vg-labels" });
    this.strips = element("canvas", { class: "vg-strips" });
    this.difference = element("canvas", { class: "vg-difference", width: 1000, height: 80 });
    this.mark = element("div", { class: "vg-mark", hidden: "" });
    this.stage = element(
      "div", { class: "vg-stage", tabindex: "0", role: "application", "aria-label": "channel gates: arrow keys move, Enter pins, Escape clears" },
      this.strips, this.difference, this.mark,
    );
    this.limits = element("div", { class: "vg-limits" }, element("span"), element("span"), element("span"));
    this.bar = makeBar();
    this.title = element("div", { class: "vh-soft" });
    this.text = element("div", { class: "vg-text", "aria-live": "polite" });
    this.photo = element("img", { class: "vg-photo", alt: "" });
    this.controls = this.makeControls();
    this.root = element(
      "section", {}, element("h4", {}, "channel gates"), this.layers, this.controls, this.title,
      element("div", { class: "vg-table" }, element("div", {}, this.labels, this.limits), this.stage),
      this.bar, element("div", { class: "vg-below" }, this.photo, this.text),
    );
    this.listen();
    this.draw();
  }

  makeControls() {
    const choice = (name, label, options) => {
      const made = element("select", { "data-setting": name, "aria-label": label });
      made.append(...options.map(([value, text]) => element("option", { value }, text)));
      made.value = this.view[name];
      return element("label", {}, label, made);
    };
    const classes = this.names.map((name) => [name, name]);
    return element(
      "div", { class: "vh-row" }, choice("this", "class", classes), choice("other", "against", classes),
      choice("order", "columns by", Object.entries(ORDERS)),
      choice("rows", "rows", [["classes", "means of classes"], ["photographs", "photographs"]]),
      choice("scale", "colours", Object.entries(SCALES)),
    );
  }

  get layer() {
    return unpack(this.state.channel[this.view.layer], this.state.classes);
  }

  // Every layer at a glance: its gates, sorted by their mean over classes.
  drawLayers() {
    this.layers.replaceChildren(...this.state.channel.map((raw, i) => {
      const layer = unpack(raw, this.state.classes), strip = element("canvas", { width: layer.shape[0], height: 1 });
      this.paint(strip, [layer.overall.slice().sort((a, b) => b - a)], layer);
      const facts = [`${layer.shape[0]} channels, ${number(layer.low)} … ${number(layer.high)}`, `by class ± ${number(layer.spread)}`];
      const lines = facts.map((line) => element("span", {}, line));
      const chosen = { type: "button", role: "option", "aria-selected": i === this.view.layer };
      const button = element("button", chosen, element("b", {}, layer.name), ...lines, strip);
      button.addEventListener("click", () => this.choose({ layer: i }));
      return button;
    }));
  }

  // Rows of values as pixels, all on the scale of the layer.
  paint(canvas, rows, layer) {
    const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, rows.length);
    const [low, high] = limits(layer, this.view.scale), table = this.tables.sequential;
    rows.forEach((row, r) => row.forEach((value, c) => {
      const shade = shadeOf((value - low) / (high - low)), p = 4 * (r * canvas.width + c);
      image.data.set([table[shade], table[shade + 1], table[shade + 2], 255], p);
    }));
    context.putImageData(image, 0, 0);
  }

  gap(layer) {
    const one = layer.means.get(this.view.this), two = layer.means.get(this.view.other);
    return one.map((value, c) => value - two[c]);
  }

  sorted(layer) {
    const all = [...layer.overall.keys()], gap = this.gap(layer);
    const by = {
      channel: (c) => -c, this: (c) => layer.means.get(this.view.this)[c], difference: (c) => gap[c],
      spread: (c) => deviation(layer, c),
    }[this.view.order];
    const keys = all.map(by);
    return all.sort((a, b) => keys[b] - keys[a]);
  }

  draw() {
    const { layer } = this, { classes } = this.state;
    this.drawLayers();
    this.order = this.sorted(layer);
    const whole = this.view.rows === "classes" ? [...layer.means.values()] : layer.rows;
    const high = ROW[this.view.rows];
    [this.strips.width, this.strips.height] = [layer.shape[0], whole.length];
    this.strips.style.height = `${whole.length * high}px`;
    this.paint(this.strips, whole.map((row) => this.order.map((c) => row[c])), layer);
    this.labels.replaceChildren(...this.names.map((name) => {
      const count = classes.filter((of) => of === name).length, rows = this.view.rows === "classes" ? 1 : count;
      return element("div", { style: `height:${rows * high}px`, title: name }, `${name} (${count})`);
    }));
    this.drawDifference(layer);
    this.drawBar(layer);
    this.title.textContent = `${layer.name}: ${layer.shape[0]} channels, columns by ${ORDERS[this.view.order]}; below: ${this.view.this} − ${this.view.other}`;
    this.show(this.view.pin ?? null);
  }

  drawDifference(layer) {
    const context = this.difference.getContext("2d"), { width, height } = this.difference, gap = this.gap(layer);
    const far = Math.max(...gap.map(Math.abs)) || 1, wide = width / gap.length;
    context.clearRect(0, 0, width, height);
    this.order.forEach((c, i) => {
      const share = gap[c] / far;
      context.fillStyle = colourText(this.tables.diverging, 0.5 + 0.42 * Math.sign(share));
      context.fillRect(i * wide, height / 2, Math.max(wide - 1, wide * 0.6), (-share * height) / 2);
    });
    context.fillStyle = "#888";
    context.fillRect(0, height / 2, width, 1);
    [far, 0, -far].forEach((value, k) => (this.limits.children[k].textContent = (value > 0 ? "+" : "") + number(value)));
  }

  drawBar(layer) {
    fillBar(this.bar, limits(layer, this.view.scale), this.tables.sequential);
  }

  // ---- one channel ----

  // at: [row, column] of the strips, or null.
  show(at) {
    this.at = at;
    this.mark.hidden = !at;
    this.photo.hidden = !(at && this.view.rows === "photographs");
    if (!at) {
      this.text.textContent = "Point at a column: one channel. A gate near 1 lets it through, near 0 shuts it.";
      return;
    }
    const { layer } = this, [row, column] = at, c = this.order[Math.min(column, this.order.length - 1)];
    this.mark.style.left = `${(100 * (column + 0.5)) / this.order.length}%`;
    const [one, two] = [this.view.this, this.view.other].map((name) => layer.means.get(name)[c]);
    const classes = `${this.view.this} ${number(one)}, ${this.view.other} ${number(two)}, difference ${number(one - two)}`;
    this.text.textContent = `${this.view.pin ? "pinned, " : ""}channel ${c}: ${this.rowText(layer, row, c)}; ${classes}.`;
  }

  rowText(layer, row, c) {
    if (this.view.rows === "classes") return `${this.names[row]} ${number(layer.means.get(this.names[row])[c])}`;
    const { classes, predicted, images } = this.state;
    this.photo.src = images[row];
    return `photograph ${row + 1}, ${classes[row]} (predicted ${predicted[row]}), ${number(layer.rows[row][c])}`;
  }

  listen() {
    const where = (event) => {
      const [row, column] = pointIn(event.target === this.difference ? this.difference : this.strips, event);
      const rows = event.target === this.difference ? 1 : this.strips.height;
      return [Math.floor(row * rows), Math.floor(column * this.strips.width)];
    };
    this.stage.addEventListener("pointermove", (event) => this.view.pin || this.show(where(event)));
    this.stage.addEventListener("pointerleave", () => this.view.pin || this.show(null));
    this.stage.addEventListener("click", (event) => this.choose({ pin: where(event) }));
    this.stage.addEventListener("keydown", (event) => {
      if (event.key in ARROWS) this.step(event.key);
      else if (event.key === "Escape") this.choose({ pin: null });
      else if (event.key === "Enter" || event.key === " ") this.choose({ pin: this.view.pin ? null : this.at });
      else return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab has its own meaning for these keys
    });
    this.controls.addEventListener("input", ({ target }) => this.choose({ [target.dataset.setting]: target.value, pin: null }));
  }

  step(key) {
    const sizes = [this.strips.height, this.strips.width], from = this.at ?? [0, -1];
    const to = from.map((v, axis) => Math.min(Math.max(v + ARROWS[key][axis], 0), sizes[axis] - 1));
    if (this.view.pin) this.choose({ pin: to });
    else this.show(to);
  }
}

function firstView(state) {
  const names = [...new Set(state.classes)], spread = state.channel.map((layer) => layer.spread);
  return {
    layer: Math.max(0, spread.indexOf(Math.max(...spread))), this: names[0], other: names[1] ?? names[0],
    order: "difference", rows: "classes", scale: "zero", pin: null, place: 0, placeScale: "zero", opacity: 0.6,
  };
}

// Draws into `el`; onChange gets the view when something is chosen or pinned, and nothing while hovering.
export function mountGates(el, state, onChange = null) {
  const view = { ...firstView(state), ...state.view }, tables = colourTables(state.colours);
  const parts = [];
  const choose = (changes) => {
    Object.assign(view, changes);
    parts.forEach((part) => part.draw());
    onChange?.(structuredClone(view));
  };
  if (state.channel.length) parts.push(new ChannelGates(state, view, tables, choose));
  if (state.spatial.length) parts.push(new SpatialGates(state, view, tables, choose));
  const heading = element("h3", {}, `${state.model}: gates over ${state.images.length} photographs`);
  const root = element("div", { class: "vizlib-hover vizlib-gates" }, heading, ...parts.map((part) => part.root));
  el.append(root);
  return {
    show: (wanted) => {
      if (JSON.stringify({ ...view, ...wanted }) === JSON.stringify(view)) return; // our own change, come back
      Object.assign(view, wanted);
      parts.forEach((part) => part.draw());
    },
    remove: () => root.remove(),
  };
}
