// Accuracy against cost: choose the cost and who is shown, hover or walk with the arrow keys, click for details.
import { element, switchTheme } from "./page.js";
import { amount } from "./tradeoff_geometry.js";
import { drawPlot } from "./tradeoff_plot.js";

const percent = (share) => `${(100 * share).toFixed(2)} %`;
const COVERED = 6; // pixels between marks that lie on one another
const UNITS = { gmacs: "GMACs", params: "parameters", memory_mb: "MB", latency_ms: "ms" };

const costsOf = (row) =>
  Object.entries(UNITS).filter(([key]) => row[key] !== null).map(([key, unit]) => `${amount(row[key])} ${unit}`);
const summaryOf = (row) => `${row.model}: ${percent(row.accuracy)}, ${costsOf(row).join(", ")}`;

function factsOf(row) {
  const range = row.low === null ? "" : ` (95 % between ${percent(row.low)} and ${percent(row.high)})`;
  const seen = row.accuracy_px === row.image_px ? "" : `, measured at ${row.accuracy_px} pixels`;
  const facts = [
    ["family", row.family],
    ["accuracy", `${percent(row.accuracy)}${range} on ${row.dataset}${seen}`],
    ["trained on", row.more_data ? "more photographs than this data set" : "this data set alone"],
    ["cost", `${costsOf(row).join(" · ")} at ${row.image_px} × ${row.image_px} pixels`],
  ];
  if (row.attention_share > 0) facts.push(["attention", `${percent(row.attention_share)} of the multiply-accumulates`]);
  return [...facts, ["accuracy from", row.source]];
}

// The clipboard is closed to pages that are not secure: then the text is selected and copied the old way.
async function copy(text, field) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  getSelection().selectAllChildren(field);
  document.execCommand("copy");
}

function detailsOf(row, open) {
  const code = `import vizlib as vl; vl.explorer("${row.model}")`;
  const field = element("code", {}, code), button = element("button", { type: "button" }, "copy");
  button.addEventListener("click", async () => {
    await copy(code, field);
    button.textContent = "copied";
  });
  const list = element("dl");
  for (const [name, text] of factsOf(row)) list.append(element("dt", {}, name), element("dd", {}, text));
  const made = [element("h3", {}, row.model), list, element("p", { class: "vl-code" }, field, " ", button)];
  if (!open) return made;
  const opener = element("button", { type: "button", class: "vl-open" }, "open in the explorer");
  opener.addEventListener("click", () => open(row.model));
  return [...made, opener];
}

function controlsOf(state, choice, changed) {
  const costs = element("select", { "aria-label": "cost" });
  for (const [key, label] of Object.entries(state.costs)) costs.append(element("option", { value: key }, label));
  costs.value = choice.cost;
  costs.addEventListener("change", () => changed({ cost: costs.value }));
  const boxes = state.present.map((family) => {
    const box = element("input", { type: "checkbox", checked: "" });
    box.addEventListener("change", () => {
      choice.families[box.checked ? "add" : "delete"](family);
      changed({});
    });
    const [colour] = state.families[family] ?? state.families.other;
    return element("label", { style: `--own:${colour}`, class: "vl-family" }, box, family);
  });
  const alone = element("input", { type: "checkbox" });
  alone.addEventListener("change", () => changed({ alone: alone.checked }));
  const more = state.rows.some((row) => row.more_data)
    ? [element("label", {}, alone, "only those trained on the data set alone")] : [];
  return element("div", { class: "vl-controls" }, element("label", {}, "cost ", costs), ...boxes, ...more);
}

// A plot of one data set with its pointer and keys; `tell(row)` previews, `choose(row)` opens the details, of no row
// closes them.
function plotOf(dataset, state, choice, tell, choose) {
  const label = `accuracy against cost on ${dataset}; arrow keys walk along the models, Enter shows one`;
  const target = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ tabindex: 0, role: "group", "aria-label": label })) target.setAttribute(name, value);
  const tip = element("div", { class: "vl-tip", hidden: "" });
  const figure = element("figure", { class: "vl-plot" }, element("figcaption", {}, dataset), target, tip);
  let placed = [], current = -1;
  const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  const covered = (i) => placed.filter((other, j) => j !== i && apart(other.point, placed[i].point) < COVERED);
  const show = (i) => {
    current = i;
    tip.hidden = i < 0;
    for (const mark of target.querySelectorAll(".vl-mark")) mark.classList.toggle("vl-current", mark.dataset.model === placed[i]?.row.model);
    if (i < 0) return;
    const { row, point: [x, y] } = placed[i], box = target.getBoundingClientRect();
    tip.replaceChildren(element("b", {}, row.model), element("br"), `${percent(row.accuracy)} · ${costsOf(row).join(" · ")}`);
    for (const under of covered(i)) tip.append(element("br"), `also here: ${under.row.model}, ${percent(under.row.accuracy)}`);
    tip.style.cssText = x < box.width / 2 ? `left:${x + 12}px;top:${y + 8}px` : `right:${box.width - x + 12}px;top:${y + 8}px`;
    tell(row);
  };
  target.addEventListener("pointermove", (event) => {
    const box = target.getBoundingClientRect();
    const far = placed.map(({ point }) => apart(point, [event.clientX - box.left, event.clientY - box.top]));
    const nearest = far.indexOf(Math.min(...far));
    show(far[nearest] < 16 ? nearest : -1);
  });
  target.addEventListener("pointerleave", () => show(-1));
  target.addEventListener("click", () => choose(placed[current]?.row));
  target.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) show(Math.min(Math.max(current + step, 0), placed.length - 1));
    else if (event.key === "Enter" && current >= 0) choose(placed[current].row);
    else if (event.key === "Escape") show(-1);
    else return;
    event.preventDefault();
  });
  const draw = () => {
    const rows = state.rows.filter((row) => row.dataset === dataset && row[choice.cost] !== null
      && choice.families.has(row.family) && !(choice.alone && row.more_data));
    const known = state.rows.some((row) => row.dataset === dataset && row[choice.cost] !== null);
    const title = known ? state.costs[choice.cost] : state.unmeasured;
    figure.classList.toggle("vl-empty", !rows.length);
    placed = drawPlot(target, rows, choice.cost, title, state.families);
    show(-1);
  };
  new ResizeObserver(draw).observe(target);
  return { element: figure, draw };
}

// Builds the whole into `root`. `open(model)`, where given, opens a model in the explorer.
export function mountTradeoff(root, state, open) {
  switchTheme(root);
  const choice = { cost: state.cost, families: new Set(state.present), alone: false };
  const details = element("aside", { class: "vl-details", "aria-live": "polite" }, state.hint);
  const spoken = element("div", { class: "vl-speak", "aria-live": "polite" });
  const choose = (row) => details.replaceChildren(...(row ? detailsOf(row, open) : [state.hint]));
  const tell = (row) => (spoken.textContent = summaryOf(row));
  const plots = state.datasets.map((dataset) => plotOf(dataset, state, choice, tell, choose));
  const changed = (change) => {
    Object.assign(choice, change);
    for (const plot of plots) plot.draw();
  };
  const legend = element("p", { class: "vl-soft" }, state.legend);
  const area = root.querySelector("[data-plots]") ?? root;
  const left = element("div", {}, ...plots.map((plot) => plot.element), legend);
  area.append(element("div", { class: "vl-wide" }, controlsOf(state, choice, changed), element("div", { class: "vl-beside" }, left, details)), spoken);
}
