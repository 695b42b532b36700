// @ts-check
/** The conversation and the replies as they are shown: every reply by the same code, in the same box. */
import { h, letter, plural } from "./dom.js";
import { markdown } from "./markdown.js";

/**
 * @typedef {{role: string, content: string}} Message
 * @typedef {{position: number, text: string}} Shown
 * @typedef {{element: HTMLElement, start: HTMLElement, end: HTMLElement, badge: HTMLElement, foot: HTMLElement, position: number, text: string}} Card
 */

const NAMES = /** @type {Record<string, string>} */ ({ user: "Person", assistant: "Assistant", system: "Instructions", tool: "Tool" });
const LONG = 1600; // characters of earlier turns above which they start folded

/** @param {Message} message @returns {HTMLElement} */
function turn(message) {
  return h(`li.turn.turn-${message.role}`, null, h("span.turn-role", null, NAMES[message.role] ?? message.role), markdown(message.content));
}

/**
 * The conversation so far; what came before the last turn folds when it is long.
 * @param {Message[]} messages @returns {HTMLElement}
 */
export function conversation(messages) {
  const earlier = messages.slice(0, -1);
  const last = messages.slice(-1);
  const length = earlier.reduce((sum, message) => sum + message.content.length, 0);
  const fold =
    earlier.length > 0 &&
    h(
      "details.earlier",
      { open: length <= LONG },
      h("summary", null, `${plural(earlier.length, "earlier turn")}`),
      h("ol.turns", null, earlier.map(turn)),
    );
  return h("section.conversation", { "aria-label": "Conversation" }, fold, h("ol.turns", null, last.map(turn)));
}

/**
 * One reply. Nothing about it but its place: no name, no length.
 * @param {Shown} shown @param {boolean} alone @returns {Card}
 */
export function reply(shown, alone) {
  const start = h("span.sentinel", { "aria-hidden": true });
  const end = h("span.sentinel", { "aria-hidden": true });
  const badge = h("span.reply-badge");
  const foot = h("div.reply-foot");
  const id = `reply-${shown.position}-${Math.random().toString(36).slice(2)}`;
  const element = h(
    "article.reply",
    { "aria-labelledby": id, "data-position": shown.position },
    h("header.reply-head", null, h("h2", { id }, alone ? "Reply" : `Reply ${letter(shown.position)}`), badge),
    h("div.reply-text", null, start, markdown(shown.text), end),
    foot,
  );
  return { element, start, end, badge, foot, position: shown.position, text: shown.text };
}

/**
 * Boxes that scroll sideways can be reached with the keyboard; the others are no extra stop.
 * @param {ParentNode} root
 */
export function reachScrollers(root) {
  for (const box of root.querySelectorAll("pre, .md-table, .table-wrap")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    if (scrolls && !box.hasAttribute("tabindex")) {
      box.setAttribute("tabindex", "0");
      box.setAttribute("role", "group"); // not a region: a page full of code is not full of landmarks
      box.setAttribute("aria-label", box.matches("pre") ? "code, scrolls sideways" : "table, scrolls sideways");
    } else if (!scrolls && box.hasAttribute("tabindex")) {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  }
}
