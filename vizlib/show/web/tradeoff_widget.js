// The front end of the trade-off in a notebook: a click asks the kernel to open the model.
import { mountTradeoff } from "./tradeoff.js";

export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.className = "vl-root";
    el.append(root);
    mountTradeoff(root, model.get("state"), (name) => model.send({ open: name }));
  },
};
