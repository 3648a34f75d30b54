// A few values over time, as lines.

import { sheet } from "./canvas.js";
import { colours } from "./colours.js";
import { number } from "./format.js";

const MARGIN = 46; // for the scale

/** Draws `columns`, arrays of `size` values each or null, the newest at the right, on a sheet of `length` columns. */
export function drawLines(canvas, columns, size, length, range) {
  const paper = sheet(canvas);
  if (!paper) return;
  const { context, width, height } = paper;
  const [low, high] = range;
  const x = (i) => MARGIN + ((i + length - columns.length) / (length - 1)) * (width - MARGIN - 4);
  const y = (value) => height - 8 - ((value - low) / (high - low)) * (height - 16);
  drawScale(context, width, [low, high], y);
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  for (let k = 0; k < size; k++) {
    context.strokeStyle = colours().series[k];
    context.beginPath();
    let drawing = false;
    columns.forEach((column, i) => {
      if (column) context[drawing ? "lineTo" : "moveTo"](x(i), y(column[k]));
      drawing = column !== null;
    });
    context.stroke();
  }
}

function drawScale(context, width, [low, high], y) {
  context.strokeStyle = colours().rule;
  context.fillStyle = colours().muted;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  const marks = low < 0 && high > 0 ? [low, 0, high] : [low, high];
  for (const mark of marks) {
    context.fillText(number(mark), MARGIN - 6, y(mark));
    context.beginPath();
    context.moveTo(MARGIN, y(mark));
    context.lineTo(width, y(mark));
    context.stroke();
  }
}
