// One tensor of a session over time: as lines while its values can be told apart, else as a map.

import { colours } from "./colours.js";
import { element, number, seconds, write } from "./format.js";
import { drawHeat } from "./heat.js";
import { drawLines } from "./lines.js";

const MOST_LINES = 8;
const TITLES = { input: "Input", output: "Output", state: "State", aux: "" };
const TAU = "aux_tau";
const BEYOND = 0.02; // of a map's values at either end may be as dark as it gets, so that a few do not pale the rest

export class Plot {
  /** `tensor` is what the server says of it; `length` is how many columns are shown. */
  constructor(tensor, length) {
    this.tensor = tensor;
    this.length = length;
    this.columns = [];
    this.isMap = tensor.role === "state" || tensor.role === "aux" || tensor.shown > MOST_LINES;
    this.isTau = tensor.key === TAU;
    this.isChance = tensor.task === "classification";
    this.isLog = this.isChance && tensor.units[0] !== "probability"; // else these models answer with logarithms
    this.canvas = element("canvas", { class: this.isMap ? "heat" : "lines", role: "img" });
    this.span = element("span");
    this.keys = element("ul", { class: "keys" });
    const title = this.isTau ? "Time constants" : `${TITLES[tensor.role]} ${tensor.name}`.trim();
    this.node = element("figure", { "data-key": tensor.key },
      element("figcaption", {}, element("h3", {}, title), this.span), this.canvas, this.keys);
    this.canvas.setAttribute("aria-label", `${title} over time; the newest values stand below`);
  }

  /** Takes the next column; null where there is none. */
  push(values) {
    this.columns.push(values && this.isLog ? values.map(Math.exp) : values);
    if (this.columns.length > this.length) this.columns.shift();
  }

  draw() {
    const [low, high] = this.extent(this.isMap ? BEYOND : 0);
    if (this.isMap) this.drawMap(low, high);
    else {
      const range = this.isChance ? [0, 1] : widened(low, high);
      drawLines(this.canvas, this.columns, this.tensor.shown, this.length, range);
      this.writeKeys();
    }
    write(this.span, this.describe());
  }

  drawMap(low, high) {
    const { shown } = this.tensor;
    if (this.isTau) {
      const [bottom, top] = [Math.log(low), Math.log(high)];
      drawHeat(this.canvas, this.columns, shown, this.length, (x) => (Math.log(x) - bottom) / (top - bottom || 1));
      this.key(0, "more", `pale: ${seconds(low)} or less, full: ${seconds(high)} or more`, "");
      return;
    }
    const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
    drawHeat(this.canvas, this.columns, shown, this.length, (x) => x / most);
    this.key(0, "less", `${number(-most)} or less`, "");
    this.key(1, "more", `${number(most)} or more`, "");
  }

  writeKeys() {
    const newest = this.columns.at(-1);
    const { labels, units, shown } = this.tensor;
    for (let k = 0; k < shown; k++) {
      const unit = this.isChance ? "" : units[k] ?? (units.length === 1 ? units[0] : "");
      this.key(k, k, labels[k] ?? String(k), newest ? `${this.written(newest[k])} ${unit}`.trim() : "");
    }
  }

  /** One entry below the plot; `colour` is the number of a series, or the name of an end of the map's scale. */
  key(place, colour, name, value) {
    const entry = this.keys.children[place] ?? this.keys.appendChild(
      element("li", { class: "key" }, element("span", { class: "swatch" }), element("span"), " ", element("b")));
    const [swatch, label, strong] = entry.children;
    swatch.style.background = typeof colour === "number" ? colours().series[colour] : `var(--${colour})`;
    write(label, name);
    write(strong, value);
  }

  describe() {
    const { shape, shown, labels } = this.tensor;
    const size = shape.reduce((a, b) => a * b, 1);
    const newest = this.columns.at(-1);
    if (this.isChance && newest) {
      const best = newest.indexOf(Math.max(...newest));
      return `${labels[best] ?? best}: ${this.written(newest[best])}`;
    }
    if (!this.isMap) return "";
    return shown < size ? `${shown} of ${size} values` : `${size} values`;
  }

  written(value) {
    return this.isChance ? value.toFixed(3) : number(value);
  }

  /** The least and the greatest value there is, but for a share of them at either end. */
  extent(beyond) {
    const columns = this.columns.filter((column) => column !== null);
    const values = new Float32Array(columns.length * this.tensor.shown);
    columns.forEach((column, i) => values.set(column, i * this.tensor.shown));
    values.sort();
    const last = values.length - 1;
    return last < 0 ? [0, 0] : [values[Math.round(beyond * last)], values[Math.round((1 - beyond) * last)]];
  }
}

function widened(low, high) {
  return low < high ? [low, high] : [low - 1, high + 1];
}
