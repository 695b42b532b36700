// @ts-check
/**
 * The only way the pages make elements: createElement and textContent, so text can never become markup.
 */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Child | Child[]} Children */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Put children into a node; strings become text nodes, nothing else.
 * @param {Node} node
 * @param {Children[]} children
 */
export function add(node, ...children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Set attributes and listeners: `onclick` is a listener, `class` and `for` are attributes, true is the empty value.
 * @param {Element} node
 * @param {Record<string, any>} attributes
 */
function dress(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") /** @type {any} */ (node)[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Make an HTML element. `h("p.note", {id: "x"}, "text", other)`.
 * @param {string} tag  name, with classes after dots
 * @param {Record<string, any> | null} [attributes]
 * @param {Children[]} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  if (attributes) dress(node, attributes);
  add(node, ...children);
  return node;
}

/**
 * Make an SVG element; the same rules.
 * @param {string} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {Children[]} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElementNS(SVG, name);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  if (attributes) dress(node, attributes);
  add(node, ...children);
  return node;
}

/**
 * The element with this id; a page without it is a mistake in the template.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id} on this page`);
  return found;
}

let counter = 0;

/** @param {string} stem @returns {string} an id nobody else has */
export function uid(stem) {
  counter += 1;
  return `${stem}-${counter}`;
}

/** @param {EventTarget | null} target @returns {boolean} true where typed letters are text */
export function isTextField(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !["radio", "checkbox", "button", "submit", "file", "range"].includes(target.type);
}

/** @param {number} position @returns {string} the letter of a reply: A, B, ... */
export const letter = (position) => String.fromCharCode(65 + position);

/**
 * Say something to screen readers without moving the focus.
 * @param {string} text
 */
export function announce(text) {
  const region = document.getElementById("live");
  if (!region) return;
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}

/**
 * A duration in words: 45 s, 12 min, 3 h 20 min.
 * @param {number | null | undefined} seconds
 * @returns {string}
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

/** @param {number} count @param {string} one @param {string} [many] @returns {string} */
export const plural = (count, one, many) => `${count} ${count === 1 ? one : many ?? `${one}s`}`;
