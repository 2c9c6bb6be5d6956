// The picture on its canvas: window and level, zoom and pan, masks and marks. Coordinates are the image's pixels.

import { decode, outline } from "./rle.js";

export class View {
  constructor(canvas, onDrawn) {
    this.canvas = canvas;
    this.onDrawn = onDrawn;
    this.image = null;
    this.window = null; // stored values that are black and white
    this.scale = 1; // CSS pixels of an image pixel
    this.x = this.y = 0; // CSS position of the image's corner
    this.layers = [];
    this.marks = null; // of the chosen mask
    this.box = null; // while it is dragged
    this.style = "both";
    this.hidden = false;
    this.drawn = new WeakMap(); // answer -> its pixels and outline
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setImage(image, keepPlace) {
    const { width, height } = image;
    this.image = image;
    this.picture = new OffscreenCanvas(width, height);
    this.shading = new ImageData(width, height);
    if (!keepPlace) {
      this.inverted = false;
      this.resetWindow();
      this.fit();
    } else this.shade();
  }

  resetWindow() {
    this.window = this.image.window;
    this.shade();
  }

  // Width and level change by shares of the first window.
  dragWindow(wider, higher) {
    const { slope, window } = this.image, first = window[1] - window[0], [low, high] = this.window;
    const width = Math.max(slope, high - low + wider * first), level = (low + high) / 2 - higher * first;
    this.window = [level - width / 2, level + width / 2];
    this.shade();
  }

  invert() {
    this.inverted = !this.inverted;
    this.shade();
  }

  // Grey values of all 65536 pixel values, then of the pixels; once a frame however fast the pointer moves.
  shade() {
    this.stale = true;
    this.redraw();
  }

  shadeNow() {
    this.stale = false;
    const { pixels, slope, intercept } = this.image, table = new Uint32Array(65536);
    const [low, high] = this.window.map((value) => (value - intercept) / slope);
    for (let value = 0; value < 65536; value++) {
      const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
      const grey = Math.round(255 * (this.inverted ? 1 - share : share));
      table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    const out = new Uint32Array(this.shading.data.buffer);
    for (let i = 0; i < out.length; i++) out[i] = table[pixels[i]];
    this.picture.getContext("2d").putImageData(this.shading, 0, 0);
  }

  resize() {
    const ratio = devicePixelRatio, { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (this.fitted) this.fit();
    else this.drawNow();
  }

  fit() {
    if (!this.image) return;
    const { clientWidth: w, clientHeight: h } = this.canvas, { width, height } = this.image;
    this.scale = Math.min(w / width, h / height);
    this.x = (w - width * this.scale) / 2;
    this.y = (h - height * this.scale) / 2;
    this.fitted = true;
    this.redraw();
  }

  zoom(factor, cssX = this.canvas.clientWidth / 2, cssY = this.canvas.clientHeight / 2) {
    const scale = Math.min(64, Math.max(0.02, this.scale * factor)), change = scale / this.scale;
    this.x = cssX - (cssX - this.x) * change;
    this.y = cssY - (cssY - this.y) * change;
    this.scale = scale;
    this.fitted = false;
    this.redraw();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.redraw();
  }

  // Continuous image coordinates: the pixel (0, 0) reaches from 0 to 1.
  toImage(cssX, cssY) {
    return [(cssX - this.x) / this.scale, (cssY - this.y) / this.scale];
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.waiting = false;
    const ctx = this.canvas.getContext("2d"), ratio = devicePixelRatio, s = this.scale * ratio;
    const line = (ratio * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 14; // grows with the text
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.image) return;
    ctx.setTransform(s, 0, 0, s, this.x * ratio, this.y * ratio);
    this.paint(ctx, s, line / s);
    this.paintMarks(ctx, line / s);
    this.onDrawn();
  }

  // `unit`: the width of a fine line.
  paint(ctx, s, unit) {
    if (this.stale) this.shadeNow();
    ctx.imageSmoothingEnabled = s < 3;
    ctx.imageSmoothingQuality = "medium";
    ctx.drawImage(this.picture, 0, 0);
    for (const layer of this.hidden ? [] : this.layers) {
      const pixels = this.pixelsOf(layer.answer);
      if (!pixels) continue;
      if (this.style !== "contour") {
        ctx.globalAlpha = layer.opacity;
        ctx.drawImage(pixels.filled(layer.colour), layer.answer.box_xyxy[0], layer.answer.box_xyxy[1]);
        ctx.globalAlpha = 1;
      }
      if (this.style !== "fill") {
        for (const [colour, width] of [["#000a", 3.4], [layer.colour, layer.chosen ? 2.2 : 1.5]]) {
          ctx.strokeStyle = colour;
          ctx.lineWidth = width * unit;
          ctx.stroke(pixels.outline);
        }
      }
    }
  }

  paintMarks(ctx, unit) {
    const box = this.box ?? this.marks?.box_xyxy;
    if (box) {
      for (const [colour, dash] of [["#000c", []], ["#fff", [5 * unit, 4 * unit]]]) {
        ctx.setLineDash(dash);
        ctx.lineWidth = 1.5 * unit;
        ctx.strokeStyle = colour;
        ctx.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
      }
      ctx.setLineDash([]);
    }
    this.marks?.points_xy.forEach(([px, py], i) => {
      const x = px + 0.5, y = py + 0.5, inside = this.marks.point_labels[i], r = 7 * unit, arm = 3.5 * unit;
      ctx.beginPath();
      ctx.arc(x, y, r, 0, 2 * Math.PI);
      ctx.fillStyle = inside ? "#1d8a4c" : "#c23b3b";
      ctx.fill();
      ctx.strokeStyle = "#fff";
      ctx.lineWidth = 1.6 * unit;
      ctx.moveTo(x - arm, y);
      ctx.lineTo(x + arm, y);
      if (inside) {
        ctx.moveTo(x, y - arm);
        ctx.lineTo(x, y + arm);
      }
      ctx.stroke();
    });
  }

  pixelsOf(answer) {
    if (!answer?.box_xyxy) return null;
    if (!this.drawn.has(answer)) {
      const mask = decode(answer.rle, answer.box_xyxy), [left, top, right, bottom] = answer.box_xyxy;
      const canvas = new OffscreenCanvas(right - left, bottom - top);
      const filled = (colour) => {
        if (canvas.colour !== colour) {
          canvas.colour = colour;
          const ctx = canvas.getContext("2d"), data = new ImageData(canvas.width, canvas.height);
          const out = new Uint32Array(data.data.buffer);
          for (let i = 0; i < mask.length; i++) if (mask[i]) out[i] = 0xff000000; // opaque, to be coloured
          ctx.putImageData(data, 0, 0);
          ctx.globalCompositeOperation = "source-in";
          ctx.fillStyle = colour;
          ctx.fillRect(0, 0, canvas.width, canvas.height);
        }
        return canvas;
      };
      this.drawn.set(answer, { filled, outline: outline(mask, answer.box_xyxy) });
    }
    return this.drawn.get(answer);
  }

  // What is shown, at the image's own size, with names: a PNG.
  async overlay() {
    const { width, height } = this.image, canvas = new OffscreenCanvas(width, height), ctx = canvas.getContext("2d");
    const unit = Math.max(1, Math.max(width, height) / 1000);
    this.paint(ctx, 1, unit);
    ctx.font = `600 ${Math.round(14 * unit)}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.lineWidth = 4 * unit;
    ctx.strokeStyle = "#000c";
    for (const { answer, name, colour } of this.layers) {
      if (!answer?.box_xyxy) continue;
      const [left, top, right, bottom] = answer.box_xyxy;
      ctx.fillStyle = colour;
      ctx.strokeText(name, (left + right) / 2, (top + bottom) / 2);
      ctx.fillText(name, (left + right) / 2, (top + bottom) / 2);
    }
    return canvas.convertToBlob({ type: "image/png" });
  }
}
