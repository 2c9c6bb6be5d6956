// The list of masks: colour, name, opacity, visibility, and what is to be said about each.

import { element } from "./dom.js";

export function showMasks(list, masks, act) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset : null;
  list.replaceChildren(...masks.now.masks.map((mask) => item(mask, masks, act)));
  if (focused) list.querySelector(`[data-id="${focused.id}"][data-part="${focused.part}"]`)?.focus();
}

function item(mask, masks, act) {
  const look = masks.look(mask), name = masks.name(mask), chosen = mask.id === masks.now.chosen;
  const shown = masks.isDrawn(mask);
  const control = (tag, part, label, properties, text) => {
    const made = element(tag, { "aria-label": `${label} ${name}`, title: label, ...properties }, text);
    Object.assign(made.dataset, { id: mask.id, part });
    return made;
  };
  const colour = control("input", "colour", "Colour of", { type: "color", value: look.colour });
  colour.addEventListener("input", () => act.look(mask, { colour: colour.value }));
  const field = control("input", "name", "Name of", { className: "name", value: name, maxLength: 100, title: name });
  field.addEventListener("input", () => act.look(mask, { name: field.value.trim() || null }));
  const eye = control("button", "eye", shown ? "Hide" : "Show", { "aria-pressed": String(!shown) }, shown ? "hide" : "show");
  eye.addEventListener("click", () => act.look(mask, { visible: !shown }));
  const remove = control("button", "remove", "Remove", {}, "×");
  remove.addEventListener("click", () => act.remove(mask));

  const made = element("li", { className: chosen ? "chosen" : "", "aria-current": String(chosen) });
  const row = element("div", { className: "row" });
  row.append(colour, field, eye, remove);
  made.append(row, about(mask, masks, act));
  if (chosen) {
    const label = element("label", { className: "about opacity" }, "Opacity");
    const slider = control("input", "opacity", "Opacity of", { type: "range", min: 0, max: 1, step: 0.05, value: look.opacity });
    slider.addEventListener("input", () => act.look(mask, { opacity: Number(slider.value) }));
    label.append(slider);
    made.append(label);
  }
  made.addEventListener("click", (event) => event.target.closest("button, input") ?? act.choose(mask.id));
  field.addEventListener("focus", () => chosen || act.choose(mask.id));
  return made;
}

// One calm line of numbers, and a sentence where something is odd.
function about(mask, masks, act) {
  const { answer, pending, error } = masks.answer(mask), lines = element("div", { className: "about" });
  const note = (text) => lines.append(element("p", { className: "note" }, text));
  if (pending) lines.append(element("p", {}, "…"));
  if (error) note(error.message);
  if (!answer) return lines;
  if (mask.text && masks.name(mask) !== mask.text) lines.append(element("p", {}, `“${mask.text}”`));
  if (answer.absent) note(`Not in this image (${answer.presence.toFixed(2)})`);
  const parts = [`IoU ${answer.score.toFixed(2)}`, `${answer.area_px.toLocaleString("en")} px`];
  if (answer.area_mm2 != null) parts.push(`${Math.round(answer.area_mm2).toLocaleString("en")} mm²`);
  lines.append(element("p", { title: "Predicted IoU and area" }, answer.area_px ? parts.join(" · ") : "The mask is empty."));
  if (answer.note) note(answer.note);
  for (const phrase of answer.instead) {
    const button = element("button", { title: `Ask for ${phrase} instead` }, phrase);
    button.addEventListener("click", () => act.rephrase(mask, phrase));
    lines.append(button);
  }
  return lines;
}
