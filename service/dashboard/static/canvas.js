// A canvas as sharp as the screen.

/** The context of `canvas`, cleared, in CSS pixels, and its size; null where it is not to be seen. */
export function sheet(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  if (!width || !height) return null;
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return { context, width, height };
}
