// Where things go in a plot of accuracy against cost: ticks, fronts, labels. Nothing here touches the page.

// A cost in few characters: 25.6 M, 4.09, 0.085.
export function amount(value) {
  if (value >= 1e6) {
    const [size, letter] = value >= 1e9 ? [1e9, "G"] : [1e6, "M"];
    return `${+(value / size).toPrecision(3)} ${letter}`;
  }
  return value >= 1e4 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3));
}

// 1, 2 and 5 of every power of ten; even steps where the range is narrow.
export function logTicks(low, high) {
  if (high / low <= 20) return evenTicks(low, high, 6);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    found.push(...[1, 2, 5].map((digit) => digit * 10 ** power));
  }
  return found.filter((value) => value >= low && value <= high);
}

export function evenTicks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, i) => (first + i) * step);
}

// The rows that no other row beats by being at least as accurate and as cheap, and better in one; cheapest first.
export function front(rows, cost) {
  const beats = (a, b) =>
    a[cost] <= b[cost] && a.accuracy >= b.accuracy && (a[cost] < b[cost] || a.accuracy > b.accuracy);
  return rows.filter((row) => !rows.some((other) => beats(other, row))).sort((a, b) => a[cost] - b[cost]);
}

// Which part of a label is at its point, best first: [0, 1] its lower left corner (y runs down).
const SIDES = [[0, 1], [1, 1], [0.5, 1], [0, 0.5], [1, 0.5], [0, 0], [1, 0], [0.5, 0]];
const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

const BESIDE = 1.2, AWAY = [4, 7, 10]; // distances from a point, in radii of its mark

// The lines of a front through corners, across and then up, as boxes.
export function stairs(corners) {
  return corners.slice(1).flatMap(([x, y], i) => {
    const [fromX, fromY] = corners[i];
    return [[fromX, fromY - 1, x, fromY + 1], [x - 1, Math.min(y, fromY), x + 1, Math.max(y, fromY)]];
  });
}

// The point of a box that is nearest to a point.
export const nearest = ([x, y], box) => [Math.min(Math.max(x, box[0]), box[2]), Math.min(Math.max(y, box[1]), box[3])];

// The line from a mark's edge to a label, as boxes round its pieces.
function leaderOf(point, box, radius) {
  const end = nearest(point, box), length = Math.hypot(end[0] - point[0], end[1] - point[1]);
  const first = (1.5 * radius) / length;
  const at = (piece) => point.map((v, axis) => v + (end[axis] - v) * (first + ((1 - first) * piece) / 12));
  return Array.from({ length: 12 }, (_, i) => [at(i), at(i + 1)]).map(([[x, y], [u, v]]) =>
    [Math.min(x, u) - 0.5, Math.min(y, v) - 0.5, Math.max(x, u) + 0.5, Math.max(y, v) + 0.5]);
}

// Where the labels that fit stand: the box, and the line to a label that is away from its mark, as the first
// `important` of `order` may be. Within the bounds, off every point, every line and the labels before.
export function placeLabels(points, sizes, bounds, order, { radius, lines, important }) {
  const taken = [...points.map(([x, y]) => [x - radius, y - radius, x + radius, y + radius]), ...lines];
  const placed = new Map();
  order.forEach((i, rank) => {
    for (const distance of rank < important ? [BESIDE, ...AWAY] : [BESIDE]) {
      for (const hang of SIDES) {
        const corner = points[i].map((v, axis) => v - hang[axis] * sizes[i][axis] + (0.5 - hang[axis]) * 2 * distance * radius);
        const box = [...corner, corner[0] + sizes[i][0], corner[1] + sizes[i][1]];
        if (box[0] < bounds[0] || box[1] < bounds[1] || box[2] > bounds[2] || box[3] > bounds[3]) continue;
        const leader = distance > BESIDE ? leaderOf(points[i], box, radius) : [];
        if ([box, ...leader].some((part) => taken.some((other) => overlap(part, other)))) continue;
        taken.push(box, ...leader);
        placed.set(i, { box, leader: leader.length > 0 });
        return;
      }
    }
  });
  return placed;
}
