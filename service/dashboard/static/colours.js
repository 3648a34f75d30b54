// The colours of the style sheet as numbers, light or dark as the reader has it.

let known = null;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { known = null; });

/** `text`, `rule` and `series` as CSS has them; `ground`, `less` and `more` as [red, green, blue]. */
export function colours() {
  if (known) return known;
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(`--${name}`).trim();
  known = {
    muted: value("muted"),
    rule: value("rule"),
    accent: value("accent"),
    series: value("series").split(/\s+/),
    ground: rgb(value("card")),
    less: rgb(value("less")),
    more: rgb(value("more")),
  };
  return known;
}

/** The way from `ground` to `full`, `share` of it. */
export function mixed(ground, full, share) {
  return ground.map((channel, i) => Math.round(channel + share * (full[i] - channel)));
}

function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}
