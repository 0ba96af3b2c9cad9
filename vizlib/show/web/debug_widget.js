// The front end of the debugging panel: the kernel makes pictures and details when they are asked for.
import { mountDebug } from "./debug.js";

export default {
  render({ model, el }) {
    const waiting = new Map();
    let count = 0;
    const request = (want, about) => new Promise((resolve, refuse) => {
      waiting.set(++count, { resolve, refuse });
      model.send({ number: count, want, about });
    });
    const answer = ({ number, found, refused }) => {
      if (refused) waiting.get(number)?.refuse(new Error(refused));
      else waiting.get(number)?.resolve(found);
      waiting.delete(number);
    };
    model.on("msg:custom", answer);
    const root = document.createElement("div");
    root.className = "vl-root vl-inset";
    el.replaceChildren(root);
    mountDebug(root, model.get("content"), {
      thumbs: (ids) => request("thumbs", ids),
      detail: (id) => request("detail", id),
    });
    return () => model.off("msg:custom", answer);
  },
};
