// The saved report: every picture and detail is in the file.
import { mountDebug } from "./debug.js";
import { switchTheme } from "./page.js";

export function mountDebugReport(root, state) {
  const { details, pictures, tables } = state;
  switchTheme(root);
  mountDebug(root.querySelector("[data-debug]"), state, {
    thumbs: async (ids) => Object.fromEntries(ids.filter((id) => state.thumbs[id]).map((id) => [id, state.thumbs[id]])),
    detail: async (id) => {
      const { html, state: own } = details[id];
      return { html, state: { ...own, tables, images: own.images.map((picture) => pictures[picture]) } };
    },
  });
}
