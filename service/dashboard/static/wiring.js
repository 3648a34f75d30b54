// The picture of a model's wiring, fetched when somebody wants to see it.

import { get } from "./follow.js";
import { element, write } from "./format.js";

/** Something to open, with the picture inside. */
export function wiring(model) {
  const picture = element("img", { alt: `Neurons and synapses of ${model}, layer by layer` });
  const trouble = element("p");
  const node = element("details", {}, element("summary", {}, "Wiring"), picture, trouble);
  node.addEventListener("toggle", async () => {
    if (!node.open || picture.src) return;
    try {
      const response = await get(`api/wiring?${new URLSearchParams({ model })}`);
      picture.src = URL.createObjectURL(await response.blob());
      write(trouble, "");
    } catch (error) {
      write(trouble, `${error.message}; close and open to try again`);
    }
  });
  return node;
}
