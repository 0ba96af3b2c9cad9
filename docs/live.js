// Starts every widget of a rendered notebook: what its module draws needs the stored state, and no kernel.
const modules = JSON.parse(document.getElementById("vz-modules").textContent);
const loaded = {};
const load = (name) => (loaded[name] ??= import(`data:text/javascript;charset=utf-8,${encodeURIComponent(modules[name])}`));

const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const revive = (_, value) => (typeof value?.base64 === "string" ? bytes(value.base64) : value);

// A model as anywidget hands it to a module; nobody answers its messages.
function still(state) {
  const listeners = {};
  return {
    get: (name) => state[name],
    set: (name, value) => {
      state[name] = value;
      listeners[`change:${name}`]?.forEach((listener) => listener());
    },
    on: (name, listener) => (listeners[name] ??= []).push(listener),
    off: (name) => delete listeners[name],
    save_changes: () => {}, send: () => {},
  };
}

for (const el of document.querySelectorAll(".vz-live")) {
  const state = JSON.parse(el.querySelector("script").textContent, revive);
  load(el.dataset.module).then((module) => module.default.render({ model: still(state), el }));
}
