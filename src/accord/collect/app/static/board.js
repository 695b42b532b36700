// @ts-check
/**
 * The order so far as a list: buttons up and down, tie, take out, and a handle to drag by. Only the handle drags, so
 * that scrolling with a finger never changes an answer.
 */
import { announce, h, letter } from "./dom.js";
/** @typedef {import("./ranking.js").Ranking} Ranking */

export class Board {
  /** @param {Ranking} ranking @param {string[]} texts @param {() => void} onchange */
  constructor(ranking, texts, onchange) {
    this.ranking = ranking;
    this.texts = texts;
    this.onchange = onchange;
    this.list = h("ol.board-list", { "aria-label": "Your order, best first" });
    this.loose = h("p.board-loose");
    this.element = h("aside.board", { "aria-label": "Your order" }, h("h2", null, "Your order"), this.list, this.loose);
    this.draw();
  }

  /** @param {number} position @param {string} act @param {() => void} change */
  act(position, act, change) {
    change();
    this.onchange();
    const place = this.ranking.shownPlace(position);
    announce(place === null ? `Reply ${letter(position)} is not ranked` : `Reply ${letter(position)} is in place ${place}`);
    /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-position="${position}"] [data-act="${act}"]`))?.focus();
  }

  /** @param {number} position @param {number} group @param {boolean} first in its group @param {number} groups */
  row(position, group, first, groups) {
    const name = `reply ${letter(position)}`;
    const tied = (this.ranking.groups()[group] ?? []).length > 1;
    const button = (/** @type {string} */ act, /** @type {string} */ sign, /** @type {string} */ label, /** @type {() => void} */ change, off = false) =>
      h("button.icon-button", { type: "button", "data-act": act, "aria-label": label, title: label, "aria-disabled": off ? "true" : null, onclick: () => off || this.act(position, act, change) }, sign);
    const handle = h("span.handle", { "aria-hidden": true, title: "Drag to move" });
    const row = h(
      "li.board-row",
      { "data-position": position, "data-group": group, class: `board-row${first ? "" : " tied"}` },
      h("span.board-place", null, first ? String(group + 1) : "="),
      h("span.board-letter", null, letter(position)),
      h("span.board-text", null, this.texts[position].slice(0, 120)),
      h(
        "span.board-acts",
        null,
        button("up", "\u2191", `Move ${name} up`, () => this.ranking.move(position, -1), group === 0 && !tied),
        button("down", "\u2193", `Move ${name} down`, () => this.ranking.move(position, 1), group === groups - 1 && !tied),
        button("tie", "=", tied ? `Untie ${name}` : `Tie ${name} with the one above`, () => this.ranking.toggleTie(position), group === 0 && !tied),
        button("out", "\u00d7", `Take ${name} out of the order`, () => this.ranking.put(position, null)),
      ),
      handle,
    );
    handle.addEventListener("pointerdown", (event) => this.drag(event, position, row));
    return row;
  }

  /** @param {PointerEvent} event @param {number} position @param {HTMLElement} row */
  drag(event, position, row) {
    event.preventDefault();
    const handle = /** @type {HTMLElement} */ (event.currentTarget);
    handle.setPointerCapture(event.pointerId);
    row.classList.add("dragging");
    let before = -1;
    const over = (/** @type {PointerEvent} */ moved) => {
      const rows = /** @type {HTMLElement[]} */ ([...this.list.querySelectorAll(".board-row")]);
      for (const other of rows) other.classList.remove("drop-before", "drop-after");
      const below = rows.find((other) => moved.clientY < other.getBoundingClientRect().top + other.offsetHeight / 2);
      before = below ? Number(below.dataset.group) : this.ranking.groups().length;
      (below ?? rows.at(-1))?.classList.add(below ? "drop-before" : "drop-after");
    };
    const end = (/** @type {PointerEvent} */ ended) => {
      handle.removeEventListener("pointermove", over);
      handle.removeEventListener("pointerup", end);
      handle.removeEventListener("pointercancel", end);
      if (ended.type === "pointerup" && before !== -1) this.ranking.drop(position, before);
      this.onchange();
    };
    handle.addEventListener("pointermove", over);
    handle.addEventListener("pointerup", end);
    handle.addEventListener("pointercancel", end);
  }

  draw() {
    const groups = this.ranking.groups();
    this.list.replaceChildren(
      ...groups.flatMap((group, index) => group.map((position, place) => this.row(position, index, place === 0, groups.length))),
    );
    const loose = this.ranking.unranked();
    this.loose.textContent = loose.length ? `Not ranked: ${loose.map(letter).join(", ")}` : "All replies are ranked";
    this.list.hidden = groups.length === 0;
  }
}
