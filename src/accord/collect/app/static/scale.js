// @ts-check
/** Radio groups that look like scales: native radios, so arrows, space and screen readers work by themselves. */
import { h, uid } from "./dom.js";

/**
 * @typedef {{value: string, mark: string, label: string, size?: number}} Option
 *   value as stored, mark inside the dot, label read aloud, size 0..3 of the dot
 * @typedef {{element: HTMLElement, value: string | null, choose: (value: string | null, quiet?: boolean) => void, focus: () => void, options: Option[]}} Scale
 */

/**
 * @param {{legend: string, options: Option[], onchange: (value: string) => void, kind?: "dots" | "words", ends?: [string, string], hideLegend?: boolean}} spec
 * @returns {Scale}
 */
export function scale({ legend, options, onchange, kind = "dots", ends, hideLegend = true }) {
  const name = uid("scale");
  const inputs = options.map((option) =>
    /** @type {HTMLInputElement} */ (h("input", { type: "radio", name, value: option.value, "aria-label": option.label })),
  );
  const title = h(hideLegend ? "span.sr" : "span.scale-legend", { id: `${name}-legend` }, legend);
  const dots = options.map((option, index) =>
    h(`label.dot.size-${option.size ?? 1}`, { title: option.label }, inputs[index], h("span", { "aria-hidden": true }, option.mark)),
  );
  const element = h(
    `div.scale.scale-${kind}`,
    null,
    title,
    ends && h("span.scale-end", { "aria-hidden": true }, ends[0]),
    h("div.scale-dots", { role: "radiogroup", "aria-labelledby": `${name}-legend` }, dots),
    ends && h("span.scale-end", { "aria-hidden": true }, ends[1]),
  );
  /** @type {Scale} */
  const self = {
    element,
    options,
    value: null,
    choose(value, quiet = false) {
      self.value = value;
      for (const input of inputs) input.checked = input.value === value;
      if (!quiet && value !== null) onchange(value);
    },
    focus: () => (inputs.find((input) => input.checked) ?? inputs[0])?.focus(),
  };
  element.addEventListener("change", (event) => {
    self.value = /** @type {HTMLInputElement} */ (event.target).value;
    onchange(self.value);
  });
  return self;
}

const LIKERT = ["very bad", "bad", "rather bad", "middling", "rather good", "good", "excellent"];

/**
 * 1..7 for one reply.
 * @param {string} legend @param {(value: string) => void} onchange @returns {Scale}
 */
export function likert(legend, onchange) {
  const options = LIKERT.map((word, index) => ({ value: String(index + 1), mark: String(index + 1), label: `${index + 1}, ${word}` }));
  const made = scale({ legend, options, onchange, ends: ["bad", "good"], hideLegend: false });
  made.element.classList.add("likert");
  return made;
}

/**
 * Yes or no.
 * @param {string} legend @param {(value: string) => void} onchange @returns {Scale}
 */
export function yesNo(legend, onchange) {
  const options = [
    { value: "yes", mark: "Yes", label: "yes" },
    { value: "no", mark: "No", label: "no" },
  ];
  return scale({ legend, options, onchange, kind: "words", hideLegend: false });
}
