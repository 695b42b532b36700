// @ts-check
/** Two replies: seven points from "A much better" to "B much better", a tie in the middle, both bad beside. */
import { h, letter } from "./dom.js";
import { scale } from "./scale.js";

/** @typedef {import("./shape.js").Asked} Asked */

const DEGREES = ["", "slightly better", "better", "much better"];

/** Points 1..7 as [position, strength]; 4 is the tie. */
const POINTS = /** @type {Record<string, [number | null, number]>} */ ({
  1: [0, 3],
  2: [0, 2],
  3: [0, 1],
  4: [null, 0],
  5: [1, 1],
  6: [1, 2],
  7: [1, 3],
});

/** @param {string} point @returns {string} */
function label(point) {
  const [position, strength] = POINTS[point];
  return position === null ? "Tie: equally good" : `${letter(position)} ${DEGREES[strength]}`;
}

export class PairForm {
  /** @param {Asked} asked @param {() => void} onchange */
  constructor(asked, onchange) {
    this.asked = asked;
    /** @type {"bad" | null} */
    this.bad = null;
    const points = Object.keys(POINTS).filter((point) => asked.tie || point !== "4");
    const graded = points.map((value) => ({ value, mark: value, label: label(value), size: POINTS[value][1] }));
    const plain = points
      .filter((point) => ["2", "4", "6"].includes(point))
      .map((value) => ({ value, mark: value === "4" ? "Tie" : `${letter(POINTS[value][0] ?? 0)} is better`, label: label(value) }));
    this.scale = scale({
      legend: "Which reply is better, and by how much",
      options: asked.strength ? graded : plain,
      kind: asked.strength ? "dots" : "words",
      ends: asked.strength ? ["A", "B"] : undefined,
      onchange: () => {
        this.setBad(false);
        onchange();
      },
    });
    this.badButton = h("button.bad-button", { type: "button", "aria-pressed": "false", "aria-keyshortcuts": "B" }, "Both bad", h("kbd", { "aria-hidden": true }, "B"));
    this.badButton.addEventListener("click", () => {
      this.setBad(!this.bad);
      onchange();
    });
    this.said = h("p.said", { "aria-hidden": true });
    this.element = h("div.form.form-pair", null, h("div.form-row", null, this.scale.element, asked.bothBad && this.badButton), this.said);
    this.show();
  }

  /** @param {boolean} bad */
  setBad(bad) {
    this.bad = bad ? "bad" : null;
    this.badButton.setAttribute("aria-pressed", String(bad));
    if (bad) this.scale.choose(null, true);
    this.show();
  }

  show() {
    const { value } = this.scale;
    const prompt = this.asked.strength ? "1 is A by far, 7 is B by far" : "Choose one";
    this.said.textContent = this.bad ? "Both bad: neither should be learnt from" : value ? label(value) : prompt;
    this.said.classList.toggle("empty", !this.bad && !value);
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key meant something here */
  key(event) {
    const key = event.key.toLowerCase();
    if (key === "t" && this.asked.tie) this.scale.choose("4");
    else if (key === "b" && this.asked.bothBad) this.badButton.click();
    else if (POINTS[key]) this.scale.choose(this.point(key));
    else return false;
    return true;
  }

  /** @param {string} key @returns {string | null} the point this digit means on this scale */
  point(key) {
    if (this.scale.options.some((option) => option.value === key)) return key;
    if (this.asked.strength || key === "4") return this.scale.value;
    return Number(key) < 4 ? "2" : "6";
  }

  /** @returns {string | null} */
  problem() {
    if (this.bad || this.scale.value) return null;
    const others = [this.asked.tie && "a tie", this.asked.bothBad && "both bad"].filter(Boolean);
    return `Choose which reply is better${others.length ? `, ${others.join(" or ")}` : ""}`;
  }

  /** @returns {number} the reply an edit would start from */
  get target() {
    return POINTS[this.scale.value ?? "4"][0] ?? 0;
  }

  read() {
    if (this.bad) return { both_bad: true };
    const [position, strength] = POINTS[this.scale.value ?? "4"];
    if (position === null) return { tie: true };
    return this.asked.strength ? { position, strength } : { position };
  }

  /** @param {any} verdict */
  write(verdict) {
    if (verdict.both_bad) return this.setBad(true);
    const strength = this.asked.strength ? verdict.strength ?? 2 : 2;
    const point = verdict.tie ? "4" : Object.keys(POINTS).find((p) => POINTS[p][0] === verdict.position && POINTS[p][1] === strength);
    this.scale.choose(point ?? null, true);
    this.show();
  }
}
