// Numbers and elements as people read them. Text is only ever set as text: ids and labels are whatever somebody chose.

export function number(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (Number.isInteger(x)) return x.toLocaleString("en");
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return x.toExponential(1);
  return x.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3 });
}

export function seconds(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (x < 1e-3) return `${number(x * 1e6)} µs`;
  return x < 1 ? `${number(x * 1e3)} ms` : `${number(x)} s`;
}

export function verdicts(counts) {
  const told = Object.entries(counts).map(([name, rows]) => `${rows.toLocaleString("en")} ${name}`);
  return told.join(", ") || "none yet";
}

/** An element with attributes, text and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Fills a <dl> with pairs of words; what is there already stays where it is. */
export function facts(list, pairs) {
  pairs.forEach(([name, value], i) => {
    const row = list.children[i] ?? list.appendChild(element("div", {}, element("dt"), element("dd")));
    write(row.children[0], name);
    write(row.children[1], value);
  });
}

/** Sets a text, unless it is there: nothing is announced or drawn twice. */
export function write(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}
