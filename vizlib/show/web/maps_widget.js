// The front end of Maps, the grid of maps in the explorer.
import { mountMaps } from "./maps.js";

// `content` is {html, state}; the settings outlive a change of content.
export default {
  render({ model, el }) {
    let settings;
    const fill = () => {
      const root = document.createElement("div");
      root.className = "vl-root vl-cards";
      root.innerHTML = model.get("content").html;
      el.replaceChildren(root);
      settings = mountMaps(root, model.get("content").state, settings).settings;
    };
    model.on("change:content", fill);
    fill();
    return () => model.off("change:content", fill);
  },
};
