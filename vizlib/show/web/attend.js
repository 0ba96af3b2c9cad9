// One attention operation as hover_state in hover.py packs it: where its tokens lie, and what each attends to.
import { bytes, numbers } from "./page.js";

export const MEAN = -1; // the head that is the mean of all heads

// The operation with its places ready to look up: `slots` lists [group, slot] of each query token.
export function unpackPlaces(layer) {
  if (layer.slots) return layer;
  const [groups, , queries] = layer.shape, { prefix, grid } = layer.queries;
  const index = numbers(Int32Array, layer.queries.index);
  layer.slots = new Map();
  for (let at = 0; at < groups * queries; at++) {
    if (index[at] < 0) continue;
    if (!layer.slots.has(index[at])) layer.slots.set(index[at], []);
    layer.slots.get(index[at]).push([Math.floor(at / queries), at % queries]);
  }
  layer.keyIndex = numbers(Int32Array, layer.keys.index);
  layer.hasPatches = grid !== null && [...layer.slots.keys()].some((token) => token >= prefix);
  return layer;
}

// Makes `weights` of the rows that have arrived; false where there are none.
export function unpackRows(layer) {
  if (layer.rows) {
    layer.weights = bytes(layer.rows);
    layer.scales = numbers(Float32Array, layer.scale);
    layer.prefixes = numbers(Float32Array, layer.prefixMass);
    layer.top = largest(layer.scales);
    layer.rows = null;
  }
  return Boolean(layer.weights);
}

// What one query token attends to: weights per key cell, NaN where the operation has no key for this query.
export function attend(layer, head, token) {
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

export const largest = (cells) => cells.reduce((a, b) => (b > a ? b : a), 0); // NaN is never larger

// ---- places -----------------------------------------------------------------------------------------------------
const cellAt = ([r, s], [row, column]) =>
  Math.min(Math.floor(row * r), r - 1) * s + Math.min(Math.floor(column * s), s - 1);
export const tokenAt = (layer, point) => layer.queries.prefix + cellAt(layer.queries.grid, point);
export const place = (cell, [, s]) => `row ${Math.floor(cell / s) + 1}, column ${(cell % s) + 1}`;
export const special = (layer, token) =>
  layer.queries.prefix > 1 ? `${layer.queries.called} ${token}` : layer.queries.called;

// The query token: the prefix token asked for, the patch at the point, while nothing is pointed at the class token; or
// null. point: in the model's image, null where it does not see it, undefined where there is none.
export function queryOf(layer, query, point) {
  if (query !== "point") return layer.slots.has(+query) ? +query : null;
  if (!layer.hasPatches) return 0; // class attention: nothing else asks
  if (point === undefined) return layer.slots.has(0) && layer.queries.prefix ? 0 : null;
  return point && tokenAt(layer, point);
}
