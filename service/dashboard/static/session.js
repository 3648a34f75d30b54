// One session: what goes in, what comes out, and its state in between.

import { follow } from "./follow.js";
import { facts, number, seconds, verdicts, write } from "./format.js";
import { Plot } from "./plot.js";

const COLUMNS = 300; // half a minute of a session that steps ten times a second or more
const RATE_OVER_S = 2;

const place = {
  section: document.getElementById("session"),
  title: document.getElementById("session-title"),
  status: document.getElementById("session-status"),
  facts: document.getElementById("session-facts"),
  plots: document.getElementById("plots"),
  pause: document.getElementById("pause"),
};

let shown = null;

/** Shows a session in place of the one before; none, where `id` is null. */
export function show(id) {
  shown?.end();
  shown = id === null ? null : new Session(id);
  place.section.hidden = shown === null;
  document.title = id === null ? "statestream" : `${id} – statestream`;
  if (shown) place.title.focus();
}

place.pause.addEventListener("click", () => {
  const paused = place.pause.getAttribute("aria-pressed") !== "true";
  place.pause.setAttribute("aria-pressed", paused);
  shown?.drawSoon();
});

class Session {
  constructor(id) {
    this.plots = [];
    this.seen = []; // when each of the last rows was seen, and its seq
    this.how = {};
    this.row = null;
    this.frame = 0;
    this.ending = new AbortController();
    place.title.textContent = id;
    place.plots.replaceChildren();
    place.facts.replaceChildren();
    place.pause.setAttribute("aria-pressed", "false");
    follow(`api/session?id=${encodeURIComponent(id)}`, {
      signal: this.ending.signal,
      onLine: (line) => this.take(line),
      onState: (text) => { write(place.status, text); place.status.classList.toggle("away", text !== ""); },
    });
  }

  end() {
    this.ending.abort();
    cancelAnimationFrame(this.frame);
  }

  take(line) {
    if (line.kind === "model") this.begin(line);
    if (line.kind === "session") this.how = line;
    if (line.kind === "row") this.step(line);
    this.drawSoon();
  }

  /** The session is of this model from now on; where that has the same tensors, the plots go on. */
  begin({ model, tensors }) {
    this.model = model;
    this.seen = [];
    const same = JSON.stringify(tensors) === this.tensors;
    this.tensors = JSON.stringify(tensors);
    if (same) return;
    this.plots = tensors.map((tensor) => new Plot(tensor, COLUMNS));
    place.plots.replaceChildren(...this.plots.map((plot) => plot.node));
  }

  step(row) {
    this.row = row;
    this.seen.push([row.at_s, row.seq]);
    while (row.at_s - this.seen[0][0] > RATE_OVER_S && this.seen.length > 2) this.seen.shift();
    for (const plot of this.plots) {
      const text = row.values[plot.tensor.key];
      plot.push(text === undefined ? null : floats(text));
    }
  }

  /** Rows a second, by the last rows seen. */
  get rate() {
    const [begin, end] = [this.seen[0], this.seen.at(-1)];
    return begin && end[0] > begin[0] ? (end[1] - begin[1]) / (end[0] - begin[0]) : null;
  }

  drawSoon() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    if (place.pause.getAttribute("aria-pressed") === "true") return;
    facts(place.facts, [
      ["model", this.model ?? "–"],
      ["rows", this.row ? this.row.seq.toLocaleString("en") : "–"],
      ["rows/s", this.how.idle_s > RATE_OVER_S ? "0" : number(this.rate)],
      ["elapsed", seconds(this.row?.dt_s)],
      ["latency", seconds(this.how.latency_s)],
      ["unacknowledged", number(this.how.unacknowledged)],
      ["verdicts", verdicts(this.how.verdicts ?? {})],
      ["stream", this.how.held ? "connected" : `none for ${seconds(this.how.idle_s)}`],
    ]);
    for (const plot of this.plots) plot.draw();
  }
}

function floats(text) {
  return new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}
