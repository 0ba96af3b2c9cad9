// From which value to which gates are coloured, and the bar that says it.
import { colourText, element, number } from "./page.js";

export const SCALES = { zero: "from 0 to 1", range: "the layer's range" };

// A gate above 1 (BAM adds 1) or below 0 widens the first scale.
export const limits = ({ low, high }, scale) => {
  if (scale === "range") return [low, high > low ? high : low + 1];
  return [Math.min(0, low), Math.max(1, high)];
};

export const makeBar = () => element("div", { class: "vg-bar" }, element("i"), element("span"), element("span"), element("span"));

export function fillBar(bar, [low, high], table) {
  const stops = Array.from({ length: 17 }, (_, k) => colourText(table, k / 16));
  bar.firstChild.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  [low, (low + high) / 2, high].forEach((value, k) => (bar.children[k + 1].textContent = number(value)));
}
