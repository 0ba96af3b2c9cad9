// Gates over places (CBAM, BAM): one map per photograph, laid over it, all on one scale.
import { element, number, numbers, pointIn, shadeOf } from "./page.js";
import { SCALES, fillBar, limits, makeBar } from "./gates_scale.js";

const SIDE = 132; // width of a photograph in CSS pixels

export class SpatialGates {
  constructor(state, view, tables, choose) {
    Object.assign(this, { state, view, tables });
    const options = state.spatial.map((layer, i) => element("option", { value: i }, layer.name));
    this.layer = element("select", { "aria-label": "layer of the maps" }, ...options);
    this.opacity = element("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": "opacity" });
    this.scale = element("select", { "aria-label": "colours of the maps" });
    this.scale.append(...Object.entries(SCALES).map(([value, text]) => element("option", { value }, text)));
    this.bar = makeBar();
    this.text = element("div", { class: "vg-text", "aria-live": "polite" });
    this.maps = state.images.map((address, i) => this.makeMap(address, i));
    this.root = element(
      "section", {}, element("h4", {}, "spatial gates"),
      element(
        "div", { class: "vh-row" }, element("label", {}, "layer", this.layer), element("label", {}, "colours", this.scale),
        element("label", {}, "opacity", this.opacity),
      ),
      this.bar, this.text, element("div", { class: "vg-maps" }, ...this.maps.map((map) => map.figure)),
    );
    this.layer.addEventListener("change", () => choose({ place: +this.layer.value }));
    this.scale.addEventListener("change", () => choose({ placeScale: this.scale.value }));
    this.opacity.addEventListener("input", () => choose({ opacity: +this.opacity.value }));
    this.draw();
  }

  makeMap(address, i) {
    const canvas = element("canvas"), { classes, predicted, aspect } = this.state;
    const stack = element(
      "div", { class: "vg-stack", style: `width:${SIDE}px;height:${Math.round(SIDE * aspect)}px` },
      element("img", { src: address, alt: `photograph ${i + 1}, ${classes[i]}` }), canvas,
    );
    const wrong = classes[i] === predicted[i] ? "" : ` → ${predicted[i]}`;
    const caption = element("figcaption", { title: classes[i] + wrong }, classes[i] + wrong);
    stack.addEventListener("pointermove", (event) => this.say(i, pointIn(stack, event)));
    stack.addEventListener("pointerleave", () => this.rest());
    return { canvas, figure: element("figure", { style: `width:${SIDE}px` }, stack, caption) };
  }

  draw() {
    const layer = this.state.spatial[this.view.place], [r, s] = layer.shape, table = this.tables.over_photo;
    layer.all ??= numbers(Float32Array, layer.values);
    const [low, high] = limits(layer, this.view.placeScale);
    this.layer.value = this.view.place;
    this.scale.value = this.view.placeScale;
    this.opacity.value = this.view.opacity;
    this.maps.forEach(({ canvas }, i) => {
      [canvas.width, canvas.height] = [s, r];
      canvas.style.opacity = this.view.opacity;
      const context = canvas.getContext("2d"), image = context.createImageData(s, r);
      for (let k = 0; k < r * s; k++) {
        const shade = shadeOf((layer.all[i * r * s + k] - low) / (high - low));
        image.data.set([table[shade], table[shade + 1], table[shade + 2], 255], 4 * k);
      }
      context.putImageData(image, 0, 0);
    });
    fillBar(this.bar, [low, high], table);
    this.rest();
  }

  rest() {
    const { name, shape, low, high } = this.state.spatial[this.view.place];
    this.text.textContent = `${name}: ${shape.join(" × ")} places, from ${number(low)} to ${number(high)}. Point at a photograph to read its values.`;
  }

  say(i, [row, column]) {
    const layer = this.state.spatial[this.view.place], [r, s] = layer.shape;
    const [y, x] = [Math.floor(row * r), Math.floor(column * s)];
    const value = number(layer.all[i * r * s + y * s + x]);
    this.text.textContent = `photograph ${i + 1}, ${this.state.classes[i]}: ${value} at row ${y + 1}, column ${x + 1} of ${r} × ${s}.`;
  }
}
