// The saved comparison: maps, and for each photograph what its tokens attend to.
import { mountMaps } from "./maps.js";
import { mountHover } from "./hover.js";

// Attention is drawn when its section is opened: a page can hold many photographs.
function fillWhenOpen(section, panels, images) {
  const placed = panels.map((panel) => ({ ...panel, photo: images[panel.photo] }));
  const fill = () => {
    if (!section.open || section.filled) return;
    section.filled = mountHover(section.querySelector("div"), { panels: placed });
  };
  section.addEventListener("toggle", fill);
  fill();
}

export function mountReport(root, state) {
  mountMaps(root, state);
  for (const section of root.querySelectorAll("[data-hover]")) {
    fillWhenOpen(section, state.hover[section.dataset.hover], state.images);
  }
}
