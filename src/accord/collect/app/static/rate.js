// @ts-check
/** Ratings (and task success) of one reply or several: the scales stand under the replies, digits go to the current one. */
import { h, letter } from "./dom.js";

/** @typedef {import("./extras.js").PerReply} PerReply */
/** @typedef {import("./reply.js").Card} Card */

export class RateForm {
  /** @param {Card[]} cards @param {PerReply} perReply @param {() => void} onchange */
  constructor(cards, perReply, onchange) {
    this.cards = cards;
    this.perReply = perReply;
    this.changed = onchange;
    this.current = 0;
    this.said = h("p.said");
    this.element = h("div.form.form-rate", null, this.said);
    cards.forEach((card, position) => card.element.addEventListener("focusin", () => this.go(position)));
    this.show();
  }

  /** @param {number} position */
  go(position) {
    this.current = position;
    this.show();
  }

  show() {
    this.cards.forEach((card, position) => card.element.classList.toggle("current", this.cards.length > 1 && position === this.current));
    const values = this.perReply.ratings.map((one) => one.value ?? "-");
    const rated = values.some((value) => value !== "-");
    if (this.cards.length === 1) this.said.textContent = rated ? `Rated ${values[0]} of 7` : "1 is very bad, 7 is excellent";
    else this.said.textContent = rated ? values.map((value, i) => `${letter(i)}: ${value}`).join("   ") : "Digits rate the marked reply, arrows go to the next";
    this.said.classList.toggle("empty", !rated);
  }

  /** @param {KeyboardEvent} event @returns {boolean} */
  key(event) {
    const key = event.key.toLowerCase();
    const scales = this.perReply.ratings;
    if (/^[1-7]$/.test(key) && scales[this.current]) {
      scales[this.current].choose(key, true);
      const next = scales.findIndex((one) => one.value === null);
      if (next !== -1 && !this.perReply.success.length) this.current = next;
    } else if ((key === "y" || key === "n") && this.perReply.success[this.current]) {
      this.perReply.success[this.current].choose(key === "y" ? "yes" : "no", true);
      const next = this.perReply.success.findIndex((one) => one.value === null);
      if (next !== -1) this.current = next;
    } else if ((key === "arrowleft" || key === "arrowright") && this.cards.length > 1) {
      this.current = (this.current + (key === "arrowleft" ? -1 : 1) + this.cards.length) % this.cards.length;
    } else return false;
    this.show();
    this.changed();
    return true;
  }

  /** @returns {null} what is missing is said by the scales themselves */
  problem() {
    return null;
  }

  get target() {
    return this.current;
  }

  read() {
    return {};
  }

  write() {
    this.show();
  }
}
