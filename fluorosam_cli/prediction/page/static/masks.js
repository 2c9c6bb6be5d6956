// The masks a user asks for: what each is asked with, which is chosen, undo and redo, and what the server answered.

import { getJson } from "./api.js";

const COLOURS = ["#f2b134", "#57c4e5", "#ef7f6d", "#9ccb5a", "#c79bf2", "#4fd1ac", "#f49ac2", "#d8c56a"];

export class Masks {
  constructor(changed) {
    this.changed = changed;
    this.clear(null);
  }

  clear(image) {
    this.image = image; // its id on the server
    this.now = { masks: [], chosen: null };
    this.past = [];
    this.future = [];
    this.looks = new Map(); // id -> {name, colour, opacity, visible}; not part of the history
    this.answers = new Map(); // what was asked -> {answer} or {pending} or {error}
    this.made = 0;
  }

  get chosen() {
    return this.now.masks.find((mask) => mask.id === this.now.chosen) ?? null;
  }

  look(mask) {
    return this.looks.get(mask.id);
  }

  name(mask) {
    return this.look(mask).name ?? (mask.text || `mask ${mask.id}`);
  }

  answer(mask) {
    return this.answers.get(asked(mask)) ?? {};
  }

  // Not drawn unless the user wants it: what the network says is not in the image, and no mark says otherwise.
  isDrawn(mask) {
    const absent = this.answer(mask).answer?.absent && !mask.points_xy.length && !mask.box_xyxy;
    return this.look(mask).visible ?? !absent;
  }

  add(parts) {
    const id = ++this.made;
    this.looks.set(id, { name: null, colour: COLOURS[(id - 1) % COLOURS.length], opacity: 0.35, visible: null });
    const mask = { id, text: null, points_xy: [], point_labels: [], box_xyxy: null, ...parts };
    this.commit({ masks: [...this.now.masks, mask], chosen: id });
  }

  // Change the chosen mask, or begin one where none is chosen.
  mark(change) {
    const mask = this.chosen;
    if (!mask) return this.add(change({ points_xy: [], point_labels: [] }));
    const masks = this.now.masks.map((other) => (other === mask ? { ...mask, ...change(mask) } : other));
    return this.commit({ ...this.now, masks });
  }

  remove(mask) {
    const masks = this.now.masks.filter((other) => other.id !== mask.id);
    const chosen = this.now.chosen === mask.id ? (masks.at(-1)?.id ?? null) : this.now.chosen;
    this.commit({ masks, chosen });
  }

  choose(id) {
    this.now = { ...this.now, chosen: id };
    this.changed();
  }

  commit(next) {
    this.past.push(this.now);
    this.future = [];
    this.now = next;
    this.ask();
  }

  undo() {
    this.step(this.past, this.future);
  }

  redo() {
    this.step(this.future, this.past);
  }

  step(from, to) {
    if (!from.length) return;
    to.push(this.now);
    this.now = from.pop();
    this.ask();
  }

  // Ask for what has no answer yet, or only an error. A prompt always has the same answer, so undo needs no server.
  ask() {
    for (const mask of this.now.masks) {
      const key = asked(mask);
      if (this.answers.get(key)?.error !== null) this.answers.set(key, this.request(key, this.answers));
    }
    this.changed();
  }

  request(key, answers) {
    const entry = { pending: true, error: null };
    getJson(`images/${this.image}/masks`, { json: JSON.parse(key) })
      .then((answer) => Object.assign(entry, { answer }))
      .catch((error) => Object.assign(entry, { error }))
      .finally(() => {
        entry.pending = false;
        if (answers === this.answers) this.changed(entry.error);
      });
    return entry;
  }

  // Another frame: the same questions about another picture.
  forget() {
    this.answers = new Map();
    this.ask();
  }
}

export function prompt({ text, points_xy, point_labels, box_xyxy }) {
  return { text, points_xy, point_labels, box_xyxy };
}

const asked = (mask) => JSON.stringify(prompt(mask));

// One command where all masks come from words alone, else one for each: points and boxes go with every phrase.
export function command(file, options, masks) {
  const together = masks.every((mask) => !mask.points_xy.length && !mask.box_xyxy);
  const lines = together && masks.length ? [masks.map((mask) => quoted(mask.text))] : masks.map((mask) => [
    ...(mask.text ? [quoted(mask.text)] : []),
    ...mask.points_xy.flatMap((xy, i) => ["--point", xy.join(",") + (mask.point_labels[i] ? "" : ",0")]),
    ...(mask.box_xyxy ? ["--box", mask.box_xyxy.join(",")] : []),
  ]);
  const path = quoted(file.startsWith("-") ? `./${file}` : file);
  return lines.map((words) => ["fluoro predict", path, ...words, ...options.map(quoted)].join(" ")).join("\n");
}

function quoted(word) {
  if (/^[\w./:=-]+$/.test(word) && !word.startsWith("~")) return word;
  return /^[\w ./:=,()-]+$/.test(word) ? `"${word}"` : `'${word.replaceAll("'", "'\\''")}'`;
}
