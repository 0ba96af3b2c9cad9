// The front end of GatesWidget: what is chosen goes to the kernel, a hovering pointer does not.
import { mountGates } from "./gates.js";

export default {
  render({ model, el }) {
    const shown = mountGates(el, { ...model.get("state"), view: model.get("view") }, (view) => {
      model.set("view", view);
      model.save_changes();
    });
    const show = () => shown.show(model.get("view"));
    model.on("change:view", show);
    return () => {
      model.off("change:view", show);
      shown.remove();
    };
  },
};
