// Mouse, pen and wheel on the picture. A press that does not move is a mark; one that does is what was chosen.

const STILL_PX = 4;

export function followPointer(view, act, spaceHeld) {
  const { canvas } = view;
  let press = null;
  const drop = () => {
    press = view.box = null;
    view.redraw();
  };

  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    if (!view.image || press) return;
    canvas.setPointerCapture(event.pointerId);
    const kind = event.button === 1 || spaceHeld() ? "pan" : event.button === 2 ? "window" : act.dragKind();
    const [x, y] = [event.offsetX, event.offsetY];
    press = { kind, button: event.button, start: [x, y], last: [x, y], moved: false, outside: event.button === 2 || event.shiftKey };
    if (event.button === 1) event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = [event.offsetX, event.offsetY];
    act.hover(view.image ? view.toImage(...at) : null);
    if (!press) return;
    if (!press.moved && Math.hypot(at[0] - press.start[0], at[1] - press.start[1]) < STILL_PX) return;
    press.moved = true;
    const dx = at[0] - press.last[0], dy = at[1] - press.last[1];
    press.last = at;
    if (press.kind === "pan") view.pan(dx, dy);
    if (press.kind === "window") view.dragWindow((2 * dx) / canvas.clientWidth, (-2 * dy) / canvas.clientHeight);
    if (press.kind === "box") {
      view.box = boxOf(view, press.start, at);
      view.redraw();
    }
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!press) return;
    const { kind, button, moved, start, outside } = press;
    drop();
    if (event.button !== button) return; // of several buttons the last to rise was not the first to sink
    if (moved && kind === "box") {
      const box = boxOf(view, start, [event.offsetX, event.offsetY]);
      if (box[2] > box[0] && box[3] > box[1]) act.box(box);
    } else if (!moved && !spaceHeld() && event.button !== 1) {
      const [x, y] = view.toImage(...start).map(Math.floor);
      if (x >= 0 && y >= 0 && x < view.image.width && y < view.image.height) act.point([x, y], outside ? 0 : 1);
    }
  });
  canvas.addEventListener("pointercancel", drop);
  canvas.addEventListener("pointerleave", () => act.hover(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    if (view.image) view.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), event.offsetX, event.offsetY);
  }, { passive: false });
}

// Whole pixels between two corners, the last ones excluded, inside the image.
function boxOf(view, from, to) {
  const { width, height } = view.image, [ax, ay] = view.toImage(...from), [bx, by] = view.toImage(...to);
  const cut = (value, most) => Math.min(most, Math.max(0, value));
  return [
    cut(Math.floor(Math.min(ax, bx)), width), cut(Math.floor(Math.min(ay, by)), height),
    cut(Math.ceil(Math.max(ax, bx)), width), cut(Math.ceil(Math.max(ay, by)), height),
  ];
}
