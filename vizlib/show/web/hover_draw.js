// Drawing for the hover widget: cells over the photograph, thumbnails, colour bar, and all of it as one picture.
import { bytes, colourText, element, intoBox, number, numbers, shadeOf } from "./page.js";
import { MEAN, attend, largest, tokenAt, unpackPlaces, unpackRows } from "./attend.js";

export const WIDTH = 320; // of a photograph on the page, in CSS pixels
const THUMB = [26, 40]; // narrowest and widest thumbnail
const CHOSEN = "#2f7fd8";
const small = element("canvas"); // one for all drawings: made anew for each it would keep the garbage collector busy

// A picture of one pixel per cell, until the next is made; cells without a value stay transparent.
function colourCells(cells, [r, s], top, table) {
  [small.width, small.height] = [s, r];
  const context = small.getContext("2d"), image = context.createImageData(s, r), { data } = image;
  for (let i = 0; i < r * s; i++) {
    if (Number.isNaN(cells[i])) continue;
    const shade = shadeOf(cells[i] / (top || 1));
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

// The photograph with what the query token attends to. heat: from attend(), or null.
export function drawPhoto(panel, layer, token, heat, top, view, table) {
  const context = panel.photo.getContext("2d"), { width, height } = panel.photo;
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = true;
  context.clearRect(0, 0, width, height);
  if (panel.image.complete && panel.image.naturalWidth) context.drawImage(panel.image, 0, 0, width, height);
  if (heat?.found) {
    context.imageSmoothingEnabled = false;
    context.globalAlpha = view.opacity;
    context.drawImage(colourCells(heat.cells, layer.keys.grid, top, table), 0, 0, width, height);
    context.globalAlpha = 1;
  }
  if (token !== null && token >= layer.queries.prefix) {
    outline(context, panel.photo, layer.queries.grid, token - layer.queries.prefix, view.pin);
  }
  [0, top / 2, top].forEach((value, i) => (panel.numbers.children[i].textContent = number(value)));
}

export function drawBar({ bar }, table) {
  const context = bar.getContext("2d");
  for (let x = 0; x < bar.width; x++) {
    context.fillStyle = colourText(table, x / (bar.width - 1));
    context.fillRect(x, 0, 1, bar.height);
  }
}

// The cells of one thumbnail: what the point attends to, else what the thumbnails were made of; null: not known here.
function thumbCells(layer, head, point) {
  const [r, s] = layer.keys.grid;
  const asked = point && unpackPlaces(layer).hasPatches;
  if (asked) return unpackRows(layer) ? attend(layer, head, tokenAt(layer, point)).cells : null;
  const unit = numbers(Float32Array, layer.thumbScale)[head] / 255;
  return Float32Array.from(bytes(layer.thumbs).subarray(head * r * s, (head + 1) * r * s), (shade) => shade * unit);
}

// A row per layer, a column per head; each to its own maximum, or all of a layer on one scale.
export function drawThumbs(panel, view, table) {
  const { layers, aspect, box } = panel.data, columns = Math.max(...layers.map((layer) => layer.shape[1]));
  const point = view.pin && intoBox(box, view.pin);
  const wide = Math.min(Math.max(Math.floor(WIDTH / columns), THUMB[0]), THUMB[1]), high = Math.round(wide * aspect);
  panel.thumb = [high, wide];
  [panel.thumbs.width, panel.thumbs.height] = [columns * wide, layers.length * high];
  const context = panel.thumbs.getContext("2d");
  context.imageSmoothingEnabled = false;
  layers.forEach((layer, row) => {
    const heads = Array.from({ length: layer.shape[1] }, (_, head) => thumbCells(layer, head, point));
    const most = Math.max(...heads.map((cells) => (cells ? largest(cells) : 0)));
    heads.forEach((cells, head) => {
      const spot = [head * wide, row * high, wide - 2, high - 2];
      context.fillStyle = "#8884"; // shows where a window is, and where there is nothing
      context.fillRect(...spot);
      const top = view.scale === "own" ? largest(cells ?? []) : most;
      if (cells) context.drawImage(colourCells(cells, layer.keys.grid, top, table), ...spot);
    });
  });
  const row = view.layers[panel.position], head = view.heads[panel.position];
  const [from, count] = head === MEAN ? [0, layers[row].shape[1]] : [head, 1];
  context.strokeStyle = CHOSEN;
  context.lineWidth = 2;
  context.strokeRect(from * wide + 1, row * high + 1, count * wide - 4, high - 4);
}

// The photographs with their captions and colour bars as one picture.
export function compose(panels, view) {
  const gap = 12, line = 18, scale = panels[0].photo.width / WIDTH;
  const tall = Math.max(...panels.map((panel) => panel.photo.height / scale));
  const size = { width: (panels.length * (WIDTH + gap) + gap) * scale, height: (tall + 6 * line) * scale };
  const page = element("canvas", size), context = page.getContext("2d");
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
    context.fillText(`${panel.data.layers[view.layers[i]].name}, ${head}`, left, below + 48, WIDTH);
    context.fillText(panel.text.textContent, left, below + 66, WIDTH);
  });
  return page;
}
