// How often each of a few sizes came, as bars.

import { sheet } from "./canvas.js";
import { colours } from "./colours.js";

/** Draws `counts`, each under its name. */
export function drawBars(canvas, counts, names) {
  const paper = sheet(canvas);
  if (!paper) return;
  const { context, width, height } = paper;
  const step = width / counts.length;
  const most = Math.max(1, ...counts);
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  counts.forEach((count, i) => {
    const tall = (count / most) * (height - 14);
    context.fillStyle = colours().accent;
    context.fillRect(i * step + 2, height - 12 - tall, step - 4, tall);
    context.fillStyle = colours().rule;
    context.fillRect(i * step + 2, height - 12, step - 4, 1);
    context.fillStyle = colours().muted;
    context.fillText(names[i], (i + 0.5) * step, height - 2);
  });
}
