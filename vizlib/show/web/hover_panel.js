// The elements of the hover widget: one figure per model, and the controls they share.
import { bytes, element } from "./page.js";
import { MEAN, special } from "./attend.js";
import { WIDTH } from "./hover_draw.js";

export function makePanel(data, position) {
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
    thumbsOf: element("div", { class: "vh-soft" }),
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

// Loads the photograph, an address or the bytes of a PNG file; what it returns forgets it again.
export function loadPhoto(panel, then) {
  const { photo } = panel.data, given = typeof photo === "string" && photo.startsWith("data:");
  const address = given ? photo : URL.createObjectURL(new Blob([bytes(photo)], { type: "image/png" }));
  panel.image.onload = then;
  panel.image.src = address;
  return () => URL.revokeObjectURL(address);
}

// Fills in the heads of the chosen layer; a head that it lacks becomes the mean.
export function fillHeads(panel, view) {
  const count = panel.data.layers[view.layers[panel.position]].shape[1];
  const heads = Array.from({ length: count }, (_, i) => element("option", { value: i }, `head ${i}`));
  panel.head.replaceChildren(element("option", { value: MEAN }, "mean over heads"), ...heads);
  if (view.heads[panel.position] >= count) view.heads[panel.position] = MEAN;
  panel.head.value = view.heads[panel.position];
  panel.layer.value = view.layers[panel.position];
}

export const firstView = (panels) => ({
  layers: panels.map((panel) => panel.layers.length - 1), heads: panels.map(() => MEAN), query: "point",
  cursor: null, pin: null, scale: "own", colours: Object.keys(panels[0].colours)[0], opacity: 0.7,
});

export function makeControls(view, panels) {
  const choice = (name, label, options) => {
    const made = element("select", { "data-setting": name, "aria-label": label });
    made.append(...options.map(([value, text]) => element("option", { value }, text)));
    return element("label", {}, label, made);
  };
  const layers = panels.flatMap((panel) => panel.layers);
  const asks = layers.reduce((a, b) => (b.queries.prefix > a.queries.prefix ? b : a)); // the most prefix tokens
  const tokens = Array.from({ length: asks.queries.prefix }, (_, i) => [String(i), special(asks, i)]);
  const scales = [["own", "this row's maximum"], ["layer", "the layer's maximum"]];
  if (panels.length > 1) scales.push(["models", "all models' maximum"]);
  const controls = element(
    "div", { class: "vh-row", role: "group", "aria-label": "how attention is drawn" },
    choice("query", "query", [["point", "point at the photo"], ...tokens]),
    choice("scale", "colours up to", scales),
    choice("colours", "colours", Object.keys(panels[0].colours).map((name) => [name, name])),
    element("label", {}, "opacity", element("input", { type: "range", min: 0, max: 1, step: 0.05, "data-setting": "opacity" })),
    element("button", { type: "button", "data-action": "save" }, "save PNG"),
  );
  showSettings(controls, view);
  return controls;
}

export function showSettings(controls, view) {
  for (const control of controls.querySelectorAll("[data-setting]")) control.value = view[control.dataset.setting];
}
