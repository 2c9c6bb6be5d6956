// The keyboard. A key that has a button presses it, so that it does nothing while the button cannot.

import { $, choose, radio } from "./dom.js";

const STYLES = ["both", "fill", "contour"];
const PAN_PX = 40;

// Returns a function that tells whether Space is held.
export function followKeys(view, masks, act) {
  let space = false;

  const press = (id) => () => $(id).click();
  const withMask = (use) => () => masks.chosen && use(masks.chosen);
  const next = (step) => () => {
    const ids = masks.now.masks.map((mask) => mask.id), at = ids.indexOf(masks.now.chosen);
    if (ids.length) masks.choose(ids[(Math.max(at, step < 0 ? 0 : -1) + step + ids.length) % ids.length]);
  };
  const hideAll = (hidden) => {
    view.hidden = hidden;
    view.redraw();
  };
  const keys = {
    "/": () => $("phrase").focus(), o: press("open"), n: press("new"), "?": press("help-button"),
    b: () => choose("drag", "box"), w: () => choose("drag", "window"), p: () => choose("drag", "pan"),
    f: () => choose("style", STYLES[(STYLES.indexOf(radio("style")) + 1) % STYLES.length]),
    i: press("invert"), r: press("reset"), 0: press("fit"), s: press("save-masks"), c: press("copy"),
    1: () => view.zoom(1 / devicePixelRatio / view.scale), "+": () => view.zoom(1.25), "=": () => view.zoom(1.25), "-": () => view.zoom(0.8),
    ArrowLeft: () => view.pan(PAN_PX, 0), ArrowRight: () => view.pan(-PAN_PX, 0),
    ArrowUp: () => view.pan(0, PAN_PX), ArrowDown: () => view.pan(0, -PAN_PX),
    "[": next(-1), "]": next(1), Delete: withMask(act.remove), Backspace: withMask(act.remove),
    v: withMask((mask) => act.look(mask, { visible: !masks.isDrawn(mask) })), h: () => hideAll(true),
  };

  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=radio], [type=range], [type=color]), textarea, select");
    if (typing || $("help").open || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      const step = { z: event.shiftKey ? "redo" : "undo", y: "redo" }[key];
      if (!step) return;
      event.preventDefault();
      masks[step]();
    } else if (key === " " && !event.target.matches("button, input")) {
      event.preventDefault();
      space = true;
    } else if (keys[key] && !(key.startsWith("Arrow") && event.target.matches("input"))) {
      event.preventDefault();
      keys[key]();
    }
  });
  addEventListener("keyup", (event) => {
    if (event.key === " ") space = false;
    if (event.key.toLowerCase() === "h") hideAll(false);
  });
  addEventListener("blur", () => {
    space = false;
    hideAll(false);
  });
  return () => space;
}
