// COCO's compressed run-length code, as prediction.json has it -> pixels, and the outline of pixels.

// Column by column, runs of 0 and 1 in turn; from the third on, the difference to the run before the previous one.
function runs(counts) {
  const found = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const five = counts.charCodeAt(at++) - 48;
      value |= (five & 31) << shift;
      shift += 5;
      more = (five & 32) !== 0;
      if (!more && five & 16) value |= -1 << shift;
    }
    found.push(found.length > 2 ? value + found[found.length - 2] : value);
  }
  return found;
}

// The mask inside its box, row by row, 0 or 1.
export function decode({ size: [height], counts }, [left, top, right, bottom]) {
  const width = right - left;
  const mask = new Uint8Array(width * (bottom - top));
  let start = 0;
  runs(counts).forEach((length, index) => {
    if (index % 2) {
      for (let p = start; p < start + length; p++) {
        mask[((p % height) - top) * width + Math.floor(p / height) - left] = 1;
      }
    }
    start += length;
  });
  return mask;
}

// The border between inside and outside along the edges of pixels, in the image's coordinates.
export function outline(mask, [left, top, right, bottom]) {
  const width = right - left, height = bottom - top, path = new Path2D();
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? mask[y * width + x] : 0);
  // Along line number `line` of `lines`, straight pieces as long as they can be.
  const trace = (lines, length, isEdge, point) => {
    for (let line = 0; line <= lines; line++) {
      for (let i = 0, from = -1; i <= length; i++) {
        const edge = i < length && isEdge(line, i);
        if (edge && from < 0) from = i;
        if (edge || from < 0) continue;
        path.moveTo(...point(line, from));
        path.lineTo(...point(line, i));
        from = -1;
      }
    }
  };
  trace(height, width, (y, x) => at(x, y) !== at(x, y - 1), (y, x) => [left + x, top + y]);
  trace(width, height, (x, y) => at(x, y) !== at(x - 1, y), (x, y) => [left + x, top + y]);
  return path;
}
