// The page: opens images, and connects the phrase field, the picture and the list of masks.

import { call, getJson, save } from "./api.js";
import { $, element, radio } from "./dom.js";
import { followKeys } from "./keys.js";
import { command, Masks, prompt } from "./masks.js";
import { showMasks } from "./panel.js";
import { completePhrases } from "./phrase.js";
import { followPointer } from "./pointer.js";
import { View } from "./view.js";

const NEEDS_IMAGE = ["phrase", "new", "fit", "reset", "invert", "polarity"];
const NEEDS_MASK = ["save-masks", "save-overlay", "save-json", "copy"];

let about = { command: [] }, file = null, jobs = 0, reopening = null, turning = false;
const view = new View($("canvas"), showNumbers);
const masks = new Masks(refresh);

// --- what is shown ---------------------------------------------------------------------------------------------------

function refresh(error = null) {
  if (error?.status === 404 && file) return doing("Opening the image again…", reopen);
  const { masks: all } = masks.now;
  drawMasks();
  showMasks($("masks"), masks, act);
  $("masks").querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  $("hint").hidden = all.length > 0 || !view.image;
  $("undo").disabled = !masks.past.length;
  $("redo").disabled = !masks.future.length;
  for (const id of NEEDS_MASK) $(id).disabled = !all.length;
  $("command").value = view.image && all.length ? command(view.image.name, options(), all) : "";
}

function drawMasks() {
  view.layers = masks.now.masks.filter((mask) => masks.isDrawn(mask)).map((mask) => ({
    ...masks.look(mask), name: masks.name(mask), answer: masks.answer(mask).answer, chosen: mask === masks.chosen,
  }));
  view.marks = masks.chosen;
  view.redraw();
}

function options() {
  const polarity = { dark: ["--invert"], bright: ["--no-invert"] }[told(view.image)] ?? [];
  return [...(view.image.frames > 1 ? ["--frames", String(view.image.frame)] : []), ...polarity, ...about.command];
}

function showNumbers() {
  const [low, high] = view.window;
  $("shown").textContent = `W ${round(high - low)} L ${round((low + high) / 2)} · ${Math.round(view.scale * 100)} %`;
}

const round = (value) => (Math.abs(value) < 100 ? Number(value.toPrecision(3)) : Math.round(value));

function say(text) {
  $("message").hidden = !text;
  $("message").firstElementChild.textContent = text;
}

// Whatever fails is said in one place; what takes longer than a blink is announced; an expired image is opened again.
async function doing(what, work) {
  jobs++;
  const timer = setTimeout(() => {
    $("busy").textContent = what;
    $("busy").hidden = false;
  }, 150);
  try {
    return await work().catch(async (error) => {
      if (error.status !== 404 || !file) throw error;
      await reopen();
      return work();
    });
  } catch (error) {
    say(error.message);
    return null;
  } finally {
    clearTimeout(timer);
    if (!--jobs) $("busy").hidden = true;
  }
}

// --- images ----------------------------------------------------------------------------------------------------------

function open(chosen) {
  if (!chosen) return null;
  return doing(`Opening ${chosen.name}…`, async () => {
    say("");
    if (chosen.size > about.upload_max_bytes) throw new Error(`${chosen.name} is larger than this page accepts.`);
    const opened = await withPixels(await upload(chosen));
    close(masks.image);
    show(opened);
    resetControls();
    file = chosen;
    masks.clear(opened.id);
    refresh();
    $("phrase").focus();
  });
}

const upload = (chosen) => getJson(`images?name=${encodeURIComponent(chosen.name)}`, { body: chosen });

async function withPixels(opened) {
  const bytes = await (await call(`images/${opened.id}/pixels`)).arrayBuffer();
  return { ...opened, pixels: new Uint16Array(bytes) };
}

function close(id) {
  if (id) call(`images/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

// The server forgets idle images; the browser still has the file, and what it shows of it.
function reopen() {
  const expired = masks.image;
  reopening ??= upload(file).then(async ({ id }) => {
    await turned(id, view.image.frame, told(view.image));
    if (masks.image !== expired) return close(id); // another was opened meanwhile
    close(expired); // it is open if another request has just opened it again
    masks.image = id;
    masks.forget();
  }).finally(() => (reopening = null));
  return reopening;
}

function show(opened, keepPlace = false) {
  view.setImage(opened, keepPlace);
  $("empty").hidden = true;
  for (const side of document.querySelectorAll(".side")) side.hidden = opened.remarks.length > 0; // it may hang otherwise
  for (const id of NEEDS_IMAGE) $(id).disabled = false;
  const bone = `bone ${opened.bone_bright ? "bright" : "dark"}${opened.polarity_from === "detected" ? " (detected)" : ""}`;
  $("name").textContent = `${opened.name} · ${opened.width} × ${opened.height} · ${bone}`;
  $("name").title = opened.name;
  $("canvas").setAttribute("aria-label", `Radiograph ${opened.name}`);
  $("remarks").replaceChildren(...opened.remarks.map((remark) => element("p", {}, `${opened.name}: ${remark}.`)));
  document.title = `${opened.name} · fluoro`;
  $("frames").hidden = opened.frames < 2;
  $("frame").max = opened.frames;
  $("frame-number").textContent = `${opened.frame} / ${opened.frames}`;
}

// What the user has told of the polarity, as the field has it.
const told = ({ bone_bright, polarity_from }) => (polarity_from !== "option" ? "" : bone_bright ? "bright" : "dark");

const turned = (id, frame, polarity) =>
  getJson(`images/${id}/show`, { json: { frame, invert: { dark: true, bright: false }[polarity] ?? null } });

function resetControls() {
  $("frame").value = view.image.frame;
  $("polarity").value = told(view.image);
}

// One turn at a time: what the controls say when it ends comes next.
async function turn() {
  if (turning) return;
  turning = true;
  await doing("Reading the frame…", async () => {
    while (Number($("frame").value) !== view.image.frame || $("polarity").value !== told(view.image)) {
      const id = masks.image;
      const opened = await withPixels(await turned(id, Number($("frame").value), $("polarity").value));
      if (masks.image !== id) continue; // another was opened meanwhile
      show(opened, true);
      masks.forget();
    }
  });
  resetControls();
  turning = false;
}

// --- masks -----------------------------------------------------------------------------------------------------------

const act = {
  dragKind: () => radio("drag"),
  point: (xy, label) => masks.mark((mask) => ({
    points_xy: [...mask.points_xy, xy], point_labels: [...mask.point_labels, label],
  })),
  box: (box_xyxy) => masks.mark(() => ({ box_xyxy })),
  choose: (id) => masks.choose(id),
  remove: (mask) => masks.remove(mask),
  rephrase: (mask, text) => {
    masks.choose(mask.id);
    masks.mark(() => ({ text }));
  },
  // The list is not made anew under a hand that drags a slider or types.
  look: (mask, change) => {
    Object.assign(masks.look(mask), change);
    if ("visible" in change) refresh();
    else drawMasks();
  },
  hover: (xy) => {
    const [x, y] = xy?.map(Math.floor) ?? [-1, -1], { width, height, pixels, slope, intercept } = view.image ?? {};
    const inside = xy && x >= 0 && y >= 0 && x < width && y < height;
    $("where").textContent = inside ? `x ${x} y ${y} · ${round(slope * pixels[y * width + x] + intercept)}` : "";
  },
};

function download(kind) {
  const stem = view.image.name.replace(/\.[^.]*$/, "");
  return doing("Preparing the download…", async () => {
    if (kind === "overlay") return save(await view.overlay(), `${stem}-overlay.png`);
    const json = { kind, prompts: masks.now.masks.map(prompt) };
    const answer = await call(`images/${masks.image}/download`, { json });
    return save(await answer.blob(), stem + (kind === "masks" ? "-masks.zip" : "-prediction.json"));
  });
}

async function copy() {
  const area = $("command");
  area.select();
  const copied = navigator.clipboard ? await navigator.clipboard.writeText(area.value).then(() => true, () => false) : false;
  $("copy").textContent = copied || document.execCommand("copy") ? "Copied" : "Copy failed";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
}

// --- start -----------------------------------------------------------------------------------------------------------

followPointer(view, act, followKeys(view, masks, act));
completePhrases($("phrase"), $("completions"), (text, replace) => {
  if (replace && masks.chosen) masks.mark(() => ({ text }));
  else masks.add({ text });
});
const clicks = {
  open: () => $("file").click(), "open-large": () => $("open").click(), undo: () => masks.undo(), redo: () => masks.redo(),
  "help-button": () => $("help").showModal(), new: () => masks.choose(null), copy,
  "save-masks": () => download("masks"), "save-overlay": () => download("overlay"), "save-json": () => download("json"),
  fit: () => view.fit(), reset: () => view.resetWindow(),
  invert: () => {
    view.invert();
    $("invert").setAttribute("aria-pressed", String(view.inverted));
  },
};
for (const [id, use] of Object.entries(clicks)) $(id).addEventListener("click", use);
$("message").lastElementChild.addEventListener("click", () => say(""));
$("file").addEventListener("change", () => {
  open($("file").files[0]);
  $("file").value = "";
});
$("frame").addEventListener("change", turn);
$("polarity").addEventListener("change", turn);
for (const style of document.querySelectorAll("input[name=style]")) {
  style.addEventListener("change", () => {
    view.style = style.value;
    view.redraw();
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("view").classList.add("dropping");
});
addEventListener("dragleave", () => $("view").classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("view").classList.remove("dropping");
  open(event.dataTransfer.files[0]);
});
addEventListener("pagehide", () => close(masks.image));
addEventListener("paste", (event) => open(event.clipboardData.files[0]));
doing("Connecting…", async () => {
  about = await getJson("about");
});
