// Many values over time, as a map: a row each, a column for each time, colour for the value.

import { sheet } from "./canvas.js";
import { colours, mixed } from "./colours.js";

const SHADES = 64;

/** Draws `columns` as `drawLines` does; `share` gives a value's place from -1 (all `less`) to 1 (all `more`). */
export function drawHeat(canvas, columns, size, length, share) {
  const paper = sheet(canvas);
  if (!paper) return;
  const image = new ImageData(length, size);
  const pixels = new Uint32Array(image.data.buffer);
  const shades = palette();
  columns.forEach((column, i) => {
    if (!column) return;
    const x = length - columns.length + i;
    for (let k = 0; k < size; k++) {
      const place = Math.max(-1, Math.min(1, share(column[k])));
      pixels[k * length + x] = shades[Math.round((place + 1) * SHADES)]; // none, clear, for what is no number
    }
  });
  const small = new OffscreenCanvas(length, size);
  small.getContext("2d").putImageData(image, 0, 0);
  paper.context.imageSmoothingEnabled = false;
  paper.context.drawImage(small, 0, 0, paper.width, paper.height);
}

/** Colours from all `less` by way of the ground to all `more`, each as the four bytes of a pixel. */
function palette() {
  const { ground, less, more } = colours();
  const bytes = Array.from({ length: 2 * SHADES + 1 }, (_, i) => {
    const place = i / SHADES - 1;
    return [...mixed(ground, place < 0 ? less : more, Math.abs(place)), 255];
  });
  return new Uint32Array(Uint8Array.from(bytes.flat()).buffer);
}
