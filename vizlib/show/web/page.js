// What every drawing in the browser needs: elements, bytes that became text on the way, numbers as text.

export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// Three digits; very small and very large ones with an exponent.
export const number = (value) => {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e4) ? value.toExponential(2) : String(+value.toPrecision(3));
};

// The button that a saved page has for light and dark.
export function switchTheme(root) {
  const dark = () => getComputedStyle(root).colorScheme === "dark";
  for (const button of root.querySelectorAll("[data-theme-switch]")) {
    button.addEventListener("click", () => (root.dataset.theme = dark() ? "light" : "dark"));
  }
}

// Bytes arrive as a DataView (in a widget) or as base64 text (in a page).
export function bytes(value) {
  if (typeof value !== "string") return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const text = atob(value), found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}
// A typed view needs an aligned start, which a part of a message does not have: copy.
export const numbers = (Kind, value) => new Kind(bytes(value).slice().buffer);

export const colourTables = (raw) => Object.fromEntries(Object.entries(raw).map(([name, table]) => [name, bytes(table)]));

// The colour of a share in [0, 1] as an index into a table of 256 RGB triples.
export const shadeOf = (share) => 3 * Math.round(255 * Math.min(Math.max(share, 0), 1));
export const colourText = (table, share) => `rgb(${table.subarray(shadeOf(share), shadeOf(share) + 3).join(" ")})`;

// ---- points: [row, column] in [0, 1] of the photograph, of which a model sees the box [left, top, right, bottom] ----

const inside = (v) => Math.min(Math.max(v, 0), 0.9999);
const SLACK = 0.01; // a box is measured, to about this much of its size

// The point in the model's own image; null where the model does not see it.
export const intoBox = ([left, top, right, bottom], [row, column]) => {
  const own = [(row - top) / (bottom - top), (column - left) / (right - left)];
  return own.every((v) => v >= -SLACK && v <= 1 + SLACK) ? own.map(inside) : null;
};
export const outOfBox = ([left, top, right, bottom], [row, column]) =>
  [top + row * (bottom - top), left + column * (right - left)];

// Where a pointer is in an element, as [row, column] in [0, 1).
export function pointIn(target, event) {
  const box = target.getBoundingClientRect();
  return [inside((event.clientY - box.top) / box.height), inside((event.clientX - box.left) / box.width)];
}

export const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// The centre of the cell one step away on a grid; the edge stops it.
export const stepped = (point, grid, key) => point.map((v, axis) => {
  const next = Math.floor(v * grid[axis]) + ARROWS[key][axis];
  return (Math.min(Math.max(next, 0), grid[axis] - 1) + 0.5) / grid[axis];
});
