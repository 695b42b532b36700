// @ts-check
/** Two to nine replies: give the current one a place with a digit; equal places tie; what stays out is not ranked. */
import { h, letter } from "./dom.js";
import { Board } from "./board.js";
import { Ranking } from "./ranking.js";
import { scale } from "./scale.js";

/** @typedef {import("./reply.js").Card} Card */

export class RankForm {
  /** @param {Card[]} cards @param {() => void} onchange */
  constructor(cards, onchange) {
    this.cards = cards;
    this.changed = onchange;
    this.ranking = new Ranking(cards.length);
    this.current = 0;
    this.board = new Board(this.ranking, cards.map((card) => card.text), () => this.change());
    this.who = h("p.who");
    this.scale = scale({
      legend: "Place of the current reply",
      options: cards.map((_, index) => ({ value: String(index + 1), mark: String(index + 1), label: `place ${index + 1}${index === 0 ? ", the best" : ""}` })),
      onchange: (value) => this.place(Number(value)),
    });
    this.said = h("p.said");
    this.element = h("div.form.form-rank", null, h("div.form-row", null, this.who, this.scale.element), this.said);
    cards.forEach((card, position) => {
      card.element.addEventListener("click", (event) => {
        const inFoot = event.target instanceof Element && event.target.closest(".reply-foot");
        if (!inFoot) this.go(position);
      });
    });
    this.show();
  }

  change() {
    this.show();
    this.changed();
  }

  /** @param {number} position */
  go(position) {
    this.current = position;
    this.show();
  }

  /** @param {number} place  for the current reply; then on to the next without a place */
  place(place) {
    this.ranking.put(this.current, place);
    const loose = this.ranking.unranked();
    const next = loose.find((position) => position > this.current) ?? loose[0];
    if (next !== undefined) this.current = next;
    this.change();
  }

  show() {
    this.board.draw();
    this.cards.forEach((card, position) => {
      const place = this.ranking.shownPlace(position);
      card.badge.textContent = place === null ? "" : `Place ${place}`;
      card.element.classList.toggle("current", position === this.current);
      if (position === this.current) card.element.setAttribute("aria-current", "true");
      else card.element.removeAttribute("aria-current");
    });
    this.who.replaceChildren("Place of reply ", h("b", null, letter(this.current)));
    const typed = this.ranking.places[this.current];
    this.scale.choose(typed === null ? null : String(typed), true);
    const order = this.words();
    this.said.textContent = order || "Best is 1. The same place twice is a tie. What you leave out is not ranked.";
    this.said.classList.toggle("empty", !order);
  }

  /** @returns {string} the order, as A > B = C */
  words() {
    return this.ranking.groups().map((group) => group.map(letter).join(" = ")).join(" > ");
  }

  /** @param {KeyboardEvent} event @returns {boolean} */
  key(event) {
    const digit = Number(event.key);
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const step = event.key === "ArrowLeft" ? -1 : 1;
      this.go((this.current + step + this.cards.length) % this.cards.length);
      this.cards[this.current].element.scrollIntoView({ block: "nearest" });
    } else if (event.key === "0" || event.key === "Backspace") {
      this.ranking.put(this.current, null);
      this.change();
    } else if (event.key !== " " && digit >= 1 && digit <= this.cards.length) this.place(digit);
    else return false;
    return true;
  }

  /** @returns {string | null} */
  problem() {
    return this.ranking.groups().length ? null : "Give at least one reply a place";
  }

  /** @returns {string} a ranking is sent only after it has been read back */
  confirmation() {
    const loose = this.ranking.unranked();
    return `${this.words()}${loose.length ? ` (not ranked: ${loose.map(letter).join(", ")})` : ""}`;
  }

  get target() {
    return this.ranking.groups()[0]?.[0] ?? this.current;
  }

  read() {
    return { ranking: this.ranking.groups() };
  }

  /** @param {any} verdict */
  write(verdict) {
    this.ranking.setGroups(verdict.ranking ?? []);
    this.show();
  }
}
