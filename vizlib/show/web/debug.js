// Mistakes to click through: confusion matrix or ranked list -> gallery -> one photograph with its maps.
// The saved report and the notebook's panel draw with it; they differ in `ask`, which brings pictures and details.
import { mountMaps } from "./maps.js";
import { element } from "./page.js";

const PAGE = 24;
const percent = (share) => `${Math.round(100 * share)} %`;
const breakable = (name) => name.replaceAll("_", "_\u200b"); // a long name breaks between its words

// One model's matrix: rows are labels, columns predictions; a click hands on which photographs are in a cell.
function matrixOf(state, model, choose) {
  const { rows, columns, cells } = state.confusion[model];
  const most = Math.max(1, ...cells.flatMap((line, i) => line.filter((_, j) => rows[i] !== columns[j])));
  const table = element("table", { class: "vl-matrix" });
  const head = element("tr", {}, element("th", {}, "label ↓ prediction →"));
  for (const name of columns) head.append(element("th", { scope: "col" }, element("span", {}, name)));
  table.append(element("thead", {}, head));
  const body = element("tbody");
  cells.forEach((line, i) => {
    const row = element("tr", {}, element("th", { scope: "row" }, rows[i]));
    line.forEach((count, j) => {
      const cell = element("td");
      if (count) {
        const right = rows[i] === columns[j];
        const text = `${count} photographs of ${rows[i]} called ${columns[j]}`;
        const button = element("button", { type: "button", title: text, "aria-label": text }, String(count));
        button.className = right ? "vl-right" : "vl-wrong";
        button.style.setProperty("--share", right ? 0 : 0.15 + (0.85 * count) / most);
        button.addEventListener("click", () => choose(text, state.photos
          .map((photo, id) => [photo, id])
          .filter(([photo]) => photo.label === rows[i] && photo.answers[model][0] === columns[j])
          .sort(([a], [b]) => b.answers[model][1] - a.answers[model][1])
          .map(([, id]) => id)));
        cell.append(button);
      }
      row.append(cell);
    });
    body.append(row);
  });
  table.append(body);
  return table;
}

// Thumbnails of photographs, a page at a time; pictures that came once are kept.
function galleryOf(state, ask, open) {
  const root = element("div", { class: "vl-gallery" });
  const kept = new Map();
  async function fill(place, ids) {
    const missing = ids.filter((id) => !kept.has(id));
    const came = missing.length ? await ask.thumbs(missing).catch(() => ({})) : {}; // a name stands where none came
    for (const [id, uri] of Object.entries(came)) kept.set(+id, uri);
    for (const image of place.querySelectorAll("[data-thumb]")) {
      const uri = kept.get(+image.dataset.thumb);
      if (uri) image.src = uri;
    }
  }
  function tile(id) {
    const photo = state.photos[id];
    const wrong = state.models.filter((_, m) => photo.answers[m][0] !== photo.label);
    const said = state.models.map((name, m) => `${name}: ${photo.answers[m][0]} ${percent(photo.answers[m][1])}`);
    const button = element(
      "button", { type: "button", class: "vl-tile", title: [photo.name, `label: ${photo.label}`, ...said].join("\n") },
      element("img", { "data-thumb": id, alt: photo.name }),
      element("span", {}, breakable(photo.label)),
      element("span", { class: wrong.length ? "vl-note" : "vl-soft" },
        wrong.length ? [...new Set(state.models.flatMap((_, m) =>
          photo.answers[m][0] === photo.label ? [] : [breakable(photo.answers[m][0])]))].join(", ") : "right"),
    );
    button.addEventListener("click", () => open(id));
    return button;
  }
  function show(title, all, from = 0) {
    const ids = state.within ? all.filter((id) => state.within.includes(id)) : all;
    const part = ids.slice(from, from + PAGE);
    const left = all.length - ids.length;
    const bar = element("p", { class: "vl-soft" }, `${title}: ${from + (part.length ? 1 : 0)} – ${from + part.length} of ${ids.length}` +
      (left ? `; ${left} more are not in this file` : ""));
    for (const [text, start] of [["previous", from - PAGE], ["next", from + PAGE]]) {
      const button = element("button", { type: "button", class: "vl-plain" }, text);
      button.disabled = start < 0 || start >= ids.length;
      button.addEventListener("click", () => show(title, all, start));
      bar.append(" ", button);
    }
    const tiles = element("div", { class: "vl-tiles" }, ...part.map(tile));
    root.replaceChildren(bar, tiles);
    fill(tiles, part);
  }
  return { root, show, fill };
}

export function mountDebug(root, state, ask) {
  const detail = element("div", { class: "vl-detail", "aria-live": "polite" });
  let settings, latest;
  async function open(id) {
    latest = id;
    detail.replaceChildren(element("p", { class: "vl-soft" }, "Computing …"));
    const told = (error) => ({ refused: error.message });
    const made = await ask.detail(id).catch(told);
    if (latest !== id) return; // another was clicked meanwhile
    if (made.refused) return void detail.replaceChildren(element("p", { class: "vl-note" }, made.refused));
    detail.innerHTML = made.html; // escaped where it was made
    settings = mountMaps(detail, made.state, settings).settings;
    const near = [...detail.querySelectorAll("[data-thumb]")].map((image) => +image.dataset.thumb);
    gallery.fill(detail, near);
    detail.scrollIntoView({ block: "nearest" });
  }
  const gallery = galleryOf(state, ask, open);
  const matrix = element("div", { class: "vl-scroll" });
  const pick = element("select", { "aria-label": "model of the confusion matrix" });
  state.models.forEach((name, m) => pick.append(element("option", { value: m }, name)));
  pick.addEventListener("change", () => matrix.replaceChildren(matrixOf(state, +pick.value, gallery.show)));
  const lists = element("div", { class: "vl-lists", role: "group", "aria-label": "ranked lists" });
  for (const { title, text, items } of state.lists) {
    const button = element("button", { type: "button", class: "vl-plain", title: text }, `${title} (${items.length})`);
    button.disabled = !items.length;
    button.addEventListener("click", () => gallery.show(`${title}, ${text}`, items));
    lists.append(button);
  }
  root.replaceChildren(
    element("h2", {}, "Which photographs"), lists,
    element("label", { class: "vl-pick" }, "Confusion matrix of ", pick), matrix,
    element("h2", {}, "Photographs"), gallery.root, detail,
  );
  pick.dispatchEvent(new Event("change"));
  const first = state.lists.find((list) => list.items.length);
  if (first) gallery.show(`${first.title}, ${first.text}`, first.items);
}
