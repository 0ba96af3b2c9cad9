// Hover any point of a photograph and see what the token there attends to, in one model or several side by side.
//
// state.panels: one object per model as made by hover_state in hover.py. Points are [row, column] in [0, 1] of the
// photograph; all panels share one cursor by its place there, though each model sees a box of its own.
import { ARROWS, colourTables, element, intoBox, number, outOfBox, pointIn, stepped } from "./page.js";
import { attend, largest, place, queryOf, special, unpackPlaces, unpackRows } from "./attend.js";
import { compose, drawBar, drawPhoto, drawThumbs } from "./hover_draw.js";
import { fillHeads, firstView, loadPhoto, makeControls, makePanel, showSettings } from "./hover_panel.js";

const REST = 250; // ms until a resting query is spoken: a screen reader should not follow every pixel of the pointer

function describe(layer, token) {
  const { prefix, grid } = layer.queries;
  return token < prefix ? special(layer, token) : place(token - prefix, grid);
}

class Hover {
  constructor(el, state, onChange) {
    this.onChange = onChange;
    this.view = { ...firstView(state.panels), ...state.view };
    this.tables = colourTables(state.panels[0].colours);
    this.panels = state.panels.map(makePanel);
    this.controls = makeControls(this.view, state.panels);
    this.live = element("div", { class: "vh-live", "aria-live": "polite" });
    const figures = element("div", { class: "vh-panels" }, ...this.panels.map((panel) => panel.figure));
    this.root = element("div", { class: "vizlib-hover" }, this.controls, figures, this.live);
    this.listen();
    this.forget = this.panels.map((panel) => loadPhoto(panel, () => this.draw()));
    this.refresh();
    el.append(this.root);
  }

  // ---- what is shown ----

  layerOf(panel) {
    return unpackPlaces(panel.data.layers[this.view.layers[panel.position]]);
  }

  // The pinned or hovered point in the model's own image; null: outside of what it sees; undefined: there is none.
  pointOf(panel) {
    const point = this.view.pin ?? this.view.cursor;
    return point ? intoBox(panel.data.box, point) : undefined;
  }

  draw() {
    for (const panel of this.panels) {
      const layer = this.layerOf(panel), head = this.view.heads[panel.position];
      const token = queryOf(layer, this.view.query, this.pointOf(panel));
      const heat = unpackRows(layer) && token !== null ? attend(layer, head, token) : null;
      drawPhoto(panel, layer, token, heat, this.topOf(layer, heat), this.view, this.tables[this.view.colours]);
      panel.text.textContent = this.explain(panel, layer, token, heat);
    }
  }

  topOf(layer, heat) {
    if (this.view.scale === "own") return heat ? largest(heat.cells) : 0;
    const layers = this.view.scale === "layer" ? [layer] : this.panels.map((panel) => this.layerOf(panel));
    return Math.max(...layers.map((one) => (unpackRows(one) ? one.top : 0)));
  }

  // Thumbnails and colour bars: these stay as they are while the pointer moves.
  drawStill() {
    for (const panel of this.panels) {
      drawBar(panel, this.tables[this.view.colours]);
      drawThumbs(panel, this.view, this.tables[this.view.colours]);
      const kinds = [...new Set(panel.data.layers.map((layer) => layer.thumbsOf))].join(" or ");
      panel.thumbsOf.textContent = `all layers (rows) and heads, ${this.view.pin ? "the pinned point" : kinds}`;
    }
  }

  explain(panel, layer, token, heat) {
    if (!layer.weights) return panel.waiting ? "Loading this layer …" : "The weights of this layer are not in this page.";
    if (token === null) {
      if (this.view.query !== "point") return "This layer has no such query.";
      return this.view.pin ?? this.view.cursor ? "This model does not see that point." : "Point at the photograph.";
    }
    if (!heat.found) return `No token at ${describe(layer, token)}: this layer does not read it.`;
    const top = largest(heat.cells), best = heat.cells.indexOf(top), { grid, prefix } = layer.keys;
    const strongest = best < 0 ? "no patch" : `${place(best, grid)} of ${grid.join(" × ")}: ${number(top)}`;
    const outside = prefix ? `; on prefix tokens ${(100 * heat.prefix).toFixed(1)} %` : "";
    return `${this.view.pin ? "pinned, " : ""}${describe(layer, token)} attends most to ${strongest}${outside}.`;
  }

  speak() {
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => {
      this.live.textContent = this.panels.map((panel) => `${panel.data.model}: ${panel.text.textContent}`).join(" ");
    }, REST);
  }

  // ---- what is chosen ----

  // Only a preview: nothing but the photographs changes, and nobody is told.
  hoverAt(point) {
    if (this.view.pin) return;
    this.view.cursor = point;
    this.draw();
    this.speak();
  }

  choose(changes) {
    Object.assign(this.view, changes);
    if (!("opacity" in changes)) this.drawStill();
    this.draw();
    this.speak();
    this.onChange?.({ view: structuredClone(this.view) });
  }

  chooseLayer(panel, layer, head) {
    this.view.layers[panel.position] = layer;
    this.view.heads[panel.position] = head;
    fillHeads(panel, this.view);
    this.need(panel);
    this.choose({});
  }

  clear() {
    this.choose({ pin: null, cursor: null, query: "point" });
    showSettings(this.controls, this.view);
  }

  step(panel, key) {
    const layer = this.layerOf(panel), from = this.pointOf(panel) ?? [0.5, 0.5];
    const point = outOfBox(panel.data.box, stepped(from, layer.queries.grid ?? layer.keys.grid, key));
    if (this.view.pin) this.choose({ pin: point, cursor: point });
    else this.hoverAt(point);
  }

  save() {
    const name = this.panels.map((panel) => panel.data.model).join("-").replace(/[^\w.-]+/g, "_");
    const link = element("a", { download: `${name}.png`, href: compose(this.panels, this.view).toDataURL("image/png") });
    link.click();
  }

  // ---- pointer, keyboard, controls ----

  listen() {
    this.panels.forEach((panel) => this.listenTo(panel));
    this.controls.addEventListener("input", ({ target }) => {
      const name = target.dataset.setting;
      this.choose({ [name]: name === "opacity" ? +target.value : target.value });
    });
    this.controls.querySelector("[data-action=save]").addEventListener("click", () => this.save());
  }

  listenTo(panel) {
    const { photo, thumbs } = panel, pointed = (event) => outOfBox(panel.data.box, pointIn(photo, event));
    photo.addEventListener("pointermove", (event) => this.hoverAt(pointed(event)));
    photo.addEventListener("pointerleave", () => this.hoverAt(null));
    photo.addEventListener("click", (event) => this.choose({ pin: pointed(event), cursor: pointed(event) }));
    photo.addEventListener("keydown", (event) => {
      if (event.key in ARROWS) this.step(panel, event.key);
      else if (event.key === "Escape") this.clear();
      else if (event.key === "Enter" || event.key === " ") this.choose({ pin: this.view.pin ? null : this.view.cursor });
      else return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab has its own meaning for these keys
    });
    const head = () => +panel.head.value;
    panel.layer.addEventListener("change", () => this.chooseLayer(panel, +panel.layer.value, head()));
    panel.head.addEventListener("change", () => this.chooseLayer(panel, +panel.layer.value, head()));
    thumbs.addEventListener("click", (event) => {
      const box = thumbs.getBoundingClientRect(), [high, wide] = panel.thumb;
      const row = Math.floor((event.clientY - box.top) / high), column = Math.floor((event.clientX - box.left) / wide);
      if (column < (panel.data.layers[row]?.shape[1] ?? 0)) this.chooseLayer(panel, row, column);
    });
  }

  // ---- what comes from the kernel ----

  need(panel) {
    const at = this.view.layers[panel.position], layer = panel.data.layers[at];
    panel.waiting = this.onChange !== null && !layer.rows && !layer.weights;
    if (panel.waiting) this.onChange({ fetch: { panel: panel.position, layer: at } });
  }

  receive({ panel, layer }, [rows, scale, prefixMass]) {
    Object.assign(this.panels[panel].data.layers[layer], { rows, scale, prefixMass });
    this.draw();
  }

  show(wanted) {
    if (JSON.stringify({ ...this.view, ...wanted }) === JSON.stringify(this.view)) return; // our own change, come back
    Object.assign(this.view, wanted);
    showSettings(this.controls, this.view);
    this.refresh();
  }

  refresh() {
    this.panels.forEach((panel) => fillHeads(panel, this.view));
    this.panels.forEach((panel) => this.need(panel));
    this.drawStill();
    this.draw();
  }

  remove() {
    clearTimeout(this.speaking);
    this.forget.forEach((forget) => forget());
    this.root.remove();
  }
}

// Draws into `el`. onChange gets {view} when something is chosen or pinned, {fetch: {panel, layer}} when a layer's
// weights are missing, and nothing while hovering.
export const mountHover = (el, state, onChange = null) => new Hover(el, state, onChange);
