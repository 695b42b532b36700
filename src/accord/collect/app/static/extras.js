// @ts-check
/**
 * What is asked about each reply beside the main question: a rating, task success, flags. And the reason and the
 * confidence asked about the whole answer.
 */
import { h, letter, uid } from "./dom.js";
import { likert, scale, yesNo } from "./scale.js";
import { storable } from "./shape.js";

/** @typedef {import("./reply.js").Card} Card */
/** @typedef {import("./shape.js").Asked} Asked */

/** @param {string} flag @returns {string} */
const words = (flag) => flag.replaceAll("_", " ");

/**
 * Flags of one reply, and its rating where that is optional: a fold that says how many flags are set.
 * @param {string[]} flags @param {string} name of the reply @param {import("./scale.js").Scale | null} rating @param {() => void} onchange
 */
function flagBox(flags, name, rating, onchange) {
  const boxes = flags.map((flag) => /** @type {HTMLInputElement} */ (h("input", { type: "checkbox", value: flag })));
  const count = h("span.count");
  const fold = /** @type {HTMLDetailsElement} */ (
    h(
      "details.flags",
      null,
      h("summary", null, `${rating ? "Rate or flag" : "Flag"} ${name}`, count),
      rating?.element,
      flags.length > 0 && h("div.chips", { role: "group", "aria-label": `Flags of ${name}` }, boxes.map((box) => h("label.chip", null, box, h("span", null, words(box.value))))),
    )
  );
  const show = () => {
    const set = boxes.filter((box) => box.checked).length;
    count.textContent = set ? String(set) : "";
  };
  fold.addEventListener("change", () => (show(), onchange()));
  return {
    fold,
    read: () => boxes.filter((box) => box.checked).map((box) => box.value),
    write: (/** @type {string[]} */ set) => {
      for (const box of boxes) box.checked = set.includes(box.value);
      if (set.length) fold.open = true;
      show();
    },
  };
}

/** Ratings, success and flags in the foot of every card. */
export class PerReply {
  /** @param {Card[]} cards @param {Asked} asked @param {string[]} flags @param {() => void} onchange */
  constructor(cards, asked, flags, onchange) {
    this.asked = asked;
    this.cards = cards;
    const alone = cards.length === 1;
    const name = (/** @type {number} */ position) => (alone ? "this reply" : `reply ${letter(position)}`);
    this.ratings = asked.ratings || asked.ratingsOffered ? cards.map((card) => likert(`Quality of ${name(card.position)}`, onchange)) : [];
    this.success = asked.success ? cards.map((card) => yesNo(`Does ${name(card.position)} do what was asked?`, onchange)) : [];
    const folded = asked.ratings ? [] : this.ratings;
    this.flags =
      flags.length || folded.length ? cards.map((card, index) => flagBox(flags, name(card.position), folded[index] ?? null, onchange)) : [];
    cards.forEach((card, index) => {
      const rating = asked.ratings ? this.ratings[index] : undefined;
      for (const part of [rating?.element, this.success[index]?.element, this.flags[index]?.fold]) if (part) card.foot.append(part);
    });
  }

  /** @returns {string | null} what is still missing */
  problem() {
    const unrated = this.ratings.findIndex((one) => one.value === null);
    if (this.asked.ratings && unrated !== -1) return this.about(unrated, "Rate");
    const unsure = this.success.findIndex((one) => one.value === null);
    if (unsure !== -1) return this.cards.length === 1 ? "Say whether the reply does what was asked" : `Say whether reply ${letter(unsure)} does what was asked`;
    return null;
  }

  /** @param {number} index @param {string} verb */
  about(index, verb) {
    return this.cards.length === 1 ? `${verb} the reply` : `${verb} reply ${letter(index)}`;
  }

  /** @param {number} position  open the flags of this reply and go there */
  openFlags(position) {
    const box = this.flags[position];
    if (!box) return;
    box.fold.open = true;
    box.fold.querySelector("input")?.focus();
  }

  /** @param {number} position @param {"yes" | "no"} answer */
  answer(position, answer) {
    this.success[position]?.choose(answer);
  }

  read() {
    /** @type {Record<string, any>} */
    const part = {};
    if (this.ratings.some((one) => one.value !== null)) part.ratings = this.ratings.map((one) => (one.value === null ? null : Number(one.value)));
    if (this.success.length) part.success = this.success.map((one) => (one.value === null ? null : one.value === "yes"));
    /** @type {Record<string, string[]>} */
    const flags = {};
    this.flags.forEach((box, index) => {
      const set = box.read();
      if (set.length) flags[String(this.cards[index].position)] = set;
    });
    if (Object.keys(flags).length) part.flags = flags;
    return part;
  }

  /** @param {any} verdict */
  write(verdict) {
    this.ratings.forEach((one, index) => one.choose(verdict.ratings?.[index] == null ? null : String(verdict.ratings[index]), true));
    this.success.forEach((one, index) => {
      const value = verdict.success?.[index];
      one.choose(value === true ? "yes" : value === false ? "no" : null, true);
    });
    this.flags.forEach((box, index) => box.write(verdict.flags?.[String(this.cards[index].position)] ?? []));
  }
}

/** A reason in words and a confidence: folded away unless the project asks for them. */
export class Reason {
  /** @param {Asked} asked @param {() => void} onchange */
  constructor(asked, onchange) {
    this.asked = asked;
    const id = uid("reason");
    this.text = /** @type {HTMLTextAreaElement} */ (
      h("textarea", { id, rows: 3, maxlength: 4000, oninput: onchange, placeholder: "What decided it for you?" })
    );
    this.confidence = scale({
      legend: "How sure are you?",
      hideLegend: false,
      ends: ["guess", "certain"],
      options: [1, 2, 3, 4, 5].map((step) => ({ value: String(step), mark: String(step), label: `${step} of 5` })),
      onchange,
    });
    this.element = h(
      "div.reason",
      { hidden: !asked.rationale },
      h("div.reason-text", null, h("label", { for: id }, asked.rationale ? "Reason (asked for in this project)" : "Reason"), this.text),
      this.confidence.element,
    );
  }

  /** @returns {string | null} */
  problem() {
    return this.asked.rationale && !this.text.value.trim() ? "Write a reason" : null;
  }

  open() {
    this.element.hidden = false;
    this.text.focus();
  }

  read() {
    /** @type {Record<string, any>} */
    const part = {};
    if (this.text.value.trim()) part.rationale = storable(this.text.value.trim());
    if (this.confidence.value) part.confidence = Number(this.confidence.value);
    return part;
  }

  /** @param {any} verdict */
  write(verdict) {
    this.text.value = verdict.rationale ?? "";
    this.confidence.choose(verdict.confidence == null ? null : String(verdict.confidence), true);
    if (verdict.rationale || verdict.confidence) this.element.hidden = false;
  }
}
