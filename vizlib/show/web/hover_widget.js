// The front end of HoverWidget: what is chosen goes to the kernel, a hovering pointer does not.
import { mountHover } from "./hover.js";

export default {
  render({ model, el }) {
    const shown = mountHover(el, { ...model.get("state"), view: model.get("view") }, ({ view, fetch }) => {
      if (fetch) return model.send({ fetch });
      model.set("view", view);
      model.save_changes();
    });
    const receive = (message, buffers) => shown.receive(message, buffers);
    const show = () => shown.show(model.get("view"));
    model.on("msg:custom", receive);
    model.on("change:view", show);
    return () => {
      model.off("msg:custom", receive);
      model.off("change:view", show);
      shown.remove();
    };
  },
};
