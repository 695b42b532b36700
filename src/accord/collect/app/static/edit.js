// @ts-check
/** Rewriting: the text of a reply in a field, with the result rendered beside it. */
import { h, letter, uid } from "./dom.js";
import { markdown } from "./markdown.js";
import { scale } from "./scale.js";
import { storable } from "./shape.js";

/** @typedef {import("./reply.js").Card} Card */

/** A field and its preview, for the editing task and for the edit dialog alike. */
export class Editor {
  /** @param {string} label @param {(text: string) => void} oninput */
  constructor(label, oninput) {
    const id = uid("edit");
    this.base = "";
    this.field = /** @type {HTMLTextAreaElement} */ (h("textarea.edit-field", { id, rows: 12, maxlength: 200_000, spellcheck: "true", dir: "auto" }));
    this.preview = h("div.edit-preview");
    this.changes = h("p.edit-changes");
    this.element = h(
      "div.editor",
      null,
      h("div.edit-side", null, h("label", { for: id }, label), this.field, this.changes),
      h("div.edit-side", null, h("p.edit-label", null, "As it will be read"), this.preview),
    );
    /** @type {number | undefined} */
    this.frame = undefined;
    this.field.addEventListener("input", () => {
      cancelAnimationFrame(this.frame ?? 0);
      this.frame = requestAnimationFrame(() => this.draw());
      oninput(this.field.value);
    });
  }

  /** @param {string} base what it starts from @param {string} [text] */
  start(base, text = base) {
    this.base = base;
    this.field.value = text;
    this.draw();
  }

  get changed() {
    return this.field.value.trim() !== this.base.trim();
  }

  get text() {
    return storable(this.field.value);
  }

  draw() {
    this.preview.replaceChildren(markdown(this.field.value));
    this.changes.textContent = this.changed ? "Changed. The original is kept beside it." : "Not changed yet";
  }
}

export class EditForm {
  /** @param {Card[]} cards @param {HTMLElement} stage where the editor goes @param {() => void} onchange */
  constructor(cards, stage, onchange) {
    this.cards = cards;
    this.base = 0;
    /** @type {Record<number, string>} what was written from each reply */
    this.drafts = {};
    this.editor = new Editor("Your version", () => {
      this.show();
      onchange();
    });
    this.editor.element.classList.add("editor-main");
    const several = cards.length > 1;
    this.from = scale({
      legend: "Start from",
      kind: "words",
      hideLegend: false,
      options: cards.map((_, index) => ({ value: String(index), mark: `Reply ${letter(index)}`, label: `reply ${letter(index)}` })),
      onchange: (value) => {
        this.drafts[this.base] = this.editor.field.value;
        this.base = Number(value);
        this.editor.start(cards[this.base].text, this.drafts[this.base]);
        this.show();
        onchange();
      },
    });
    this.from.choose("0", true);
    stage.append(...(several ? [this.from.element] : []), this.editor.element);
    this.said = h("p.said");
    this.element = h("div.form.form-edit", null, this.said);
    this.editor.start(cards[0].text);
    this.show();
  }

  show() {
    this.said.textContent = this.editor.changed ? "Your version is ready to send" : "Press E to go to the text, Escape to leave it, Ctrl Enter to send";
    this.said.classList.toggle("empty", !this.editor.changed);
  }

  /** @param {KeyboardEvent} event @returns {boolean} */
  key(event) {
    if (event.key.toLowerCase() !== "e") return false;
    this.editor.field.focus();
    return true;
  }

  /** @returns {string | null} */
  problem() {
    return this.editor.field.value.trim() ? null : "The text is empty";
  }

  /** @returns {string} an unchanged text is sent only when that was meant */
  confirmation() {
    return this.editor.changed ? "" : "Unchanged: the reply is right as it is";
  }

  get target() {
    return this.base;
  }

  read() {
    return { edit: this.editor.text, edit_position: this.base };
  }

  /** @param {any} verdict */
  write(verdict) {
    this.base = verdict.edit_position ?? 0;
    this.from.choose(String(this.base), true);
    this.editor.start(this.cards[this.base].text, verdict.edit ?? "");
    this.show();
  }
}
