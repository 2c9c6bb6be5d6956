// The phrase field: completions while one types, chosen by mouse or keyboard (the combobox pattern of WAI-ARIA).

import { getJson } from "./api.js";
import { element } from "./dom.js";

const PAUSE_MS = 80;

export function completePhrases(field, list, enter) {
  let found = [], at = -1, timer = 0, latest = 0;

  const close = () => {
    clearTimeout(timer);
    latest++;
    at = -1;
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  };
  const point = (index) => {
    at = index;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", i === at));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    if (at >= 0) field.setAttribute("aria-activedescendant", `completion-${at}`);
    else field.removeAttribute("aria-activedescendant");
  };
  const take = (text, replace) => {
    close();
    if (!text.trim()) return;
    field.value = "";
    enter(text.trim(), replace);
  };
  const show = (completions) => {
    found = completions;
    list.replaceChildren(...found.map((completion, i) => {
      const item = element("li", { id: `completion-${i}`, role: "option", className: completion.trained ? "" : "untrained" });
      const means = completion.phrase === completion.words ? "" : completion.words;
      item.append(element("span", {}, completion.phrase), element("span", { className: "means" }, means));
      item.append(element("span", { className: "kind" }, completion.kind));
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        take(completion.phrase, event.shiftKey);
      });
      return item;
    }));
    list.hidden = !found.length;
    field.setAttribute("aria-expanded", String(found.length > 0));
    point(-1);
  };
  const ask = async () => {
    const asked = ++latest;
    const completions = await getJson(`phrases?q=${encodeURIComponent(field.value)}`).catch(() => []);
    if (asked === latest && document.activeElement === field) show(completions);
  };

  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  });
  field.addEventListener("focus", ask);
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length && !list.hidden) {
      event.preventDefault();
      point(((at + 1 + step + found.length + 1) % (found.length + 1)) - 1);
    } else if (event.key === "Enter") {
      take(at >= 0 ? found[at].phrase : field.value, event.shiftKey);
    } else if (event.key === "Escape") {
      if (list.hidden) field.blur();
      else close();
    }
  });
}
