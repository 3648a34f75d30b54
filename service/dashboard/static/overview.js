// All models and, as far as there is room, all sessions.

import { drawBars } from "./bars.js";
import { element, facts, number, seconds, verdicts, write } from "./format.js";
import { wiring } from "./wiring.js";

const models = document.getElementById("models");
const sessions = document.getElementById("sessions");
const shown = document.getElementById("sessions-shown");
const NUMBERS = new Set([2, 3, 4, 5]);

/** Shows what a server says of itself; what stays the same stays where it is, with the reader's focus. */
export function overview(line) {
  arrange(models, line.models, (figures) => figures.model, makeModel, fillModel);
  arrange(sessions, line.sessions, (figures) => figures.id, makeSession, fillSession);
  const rest = line.total - line.sessions.length;
  write(shown, rest > 0 ? `${line.sessions.length} of ${number(line.total)}, the newest` : `${line.total} in all`);
  mark();
}

/** Marks the session that is being watched. */
export function mark() {
  const id = new URLSearchParams(location.hash.slice(1)).get("session");
  for (const row of sessions.children) row.setAttribute("aria-current", row.dataset.key === id);
}

/** Has `parent` hold a node for each of `items`, in their order, made once and filled anew. */
function arrange(parent, items, key, make, fill) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, i) => {
    const node = old.get(key(item)) ?? make(item);
    old.delete(key(item));
    node.dataset.key = key(item);
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
    fill(node, item);
  });
  for (const node of old.values()) node.remove();
}

function makeModel({ model, wired }) {
  return element("article", {},
    element("h3", {}, model), element("dl", { class: "facts" }), element("canvas", { class: "bars", role: "img" }),
    ...(wired ? [wiring(model)] : []));
}

function fillModel(node, figures) {
  const [, list, canvas] = node.children;
  const { batch, queue_s: queue, compute_s: compute } = figures;
  facts(list, [
    ["role", figures.role],
    ["sessions", number(figures.sessions)],
    ["rows/s", number(figures.rows_per_s)],
    ["waiting rows", number(figures.waiting_rows)],
    ["batch, mean", number(batch.mean)],
    ["wait, mean · p99", `${seconds(queue.mean)} · ${seconds(queue.p99)}`],
    ["turn, mean · p99", `${seconds(compute.mean)} · ${seconds(compute.p99)}`],
    ["failed turns", number(figures.failed_turns)],
    ["verdicts", verdicts(figures.verdicts)],
  ]);
  canvas.setAttribute("aria-label", `Turns of the last second by sessions in a batch; mean ${number(batch.mean)}`);
  const names = batch.bounds.map((bound, i) => (i && bound - batch.bounds[i - 1] > 1 ? `≤${bound}` : `${bound}`));
  drawBars(canvas, batch.counts, [...names, "more"]);
}

function makeSession({ id }) {
  const link = element("a", { href: `#${new URLSearchParams({ session: id })}` }, id);
  const cells = Array.from({ length: 7 }, (_, i) => element("td", NUMBERS.has(i + 1) ? { class: "number" } : {}));
  return element("tr", {}, element("td", { title: id }, link), ...cells);
}

function fillSession(row, figures) {
  [
    figures.model,
    number(figures.rows_per_s),
    seconds(figures.latency_s),
    number(figures.settled),
    number(figures.unacknowledged),
    verdicts(figures.verdicts),
    figures.held ? "connected" : `none for ${seconds(figures.idle_s)}`,
  ].forEach((text, i) => write(row.children[i + 1], text));
}
