// @ts-check
/** One task as a page: conversation, replies, and the form its kind needs. Built ahead of time, mounted when due. */
import { add, h, letter } from "./dom.js";
import { EditForm } from "./edit.js";
import { PerReply, Reason } from "./extras.js";
import { PairForm } from "./pair.js";
import { RankForm } from "./rank.js";
import { RateForm } from "./rate.js";
import { conversation, reachScrollers, reply } from "./reply.js";
import { Seen } from "./seen.js";
import { asked, storable, wording } from "./shape.js";

/** @typedef {import("./shape.js").Task} Task */

export class TaskPage {
  /** @param {Task} task @param {() => void} onchange */
  constructor(task, onchange) {
    this.task = task;
    this.asked = asked(task);
    /** @type {{text: string, position: number} | null} an edit that goes along with another answer */
    this.edit = null;
    /** @type {Seen | null} */
    this.seen = null;
    this.changed = () => {
      this.form?.show?.();
      onchange();
    };
    const shown = [...task.candidates].sort((a, b) => a.position - b.position);
    this.cards = shown.map((one) => reply(one, shown.length === 1));
    const { title, kicker } = wording(task);
    this.heading = h("h1.task-title", { tabindex: -1 }, title);
    const replies = h(`div.replies.replies-${shown.length}`, null, this.cards.map((card) => card.element));
    const body = h("div.task-body", null, replies);
    this.reason = new Reason(this.asked, this.changed);
    this.perReply = new PerReply(this.cards, this.asked, task.flags, this.changed);
    this.form = this.makeForm(body);
    this.element = h(
      `article.task.task-${task.kind}`,
      null,
      h("header.task-head", null, h("p.kicker", null, kicker), this.heading),
      conversation(task.messages),
      body,
      this.reason.element,
    );
    this.dock = h("div.task-form", null, this.form.element);
    if (task.previous) this.write(task.previous);
  }

  /** @param {HTMLElement} body @returns {any} the form for the kind of task */
  makeForm(body) {
    const { kind } = this.task;
    if (kind === "pair") return new PairForm(this.asked, this.changed);
    if (kind === "rate") return new RateForm(this.cards, this.perReply, this.changed);
    if (kind === "edit") return new EditForm(this.cards, body, this.changed);
    const form = new RankForm(this.cards, this.changed);
    add(body, form.board.element);
    return form;
  }

  /** Call when the page is on the screen: the clocks start here. */
  mounted() {
    const dock = document.getElementById("dock");
    const covered = dock && getComputedStyle(dock).position === "sticky" ? dock.offsetHeight : 0;
    this.seen = new Seen(this.cards.map((card) => card.start), this.cards.map((card) => card.end), covered, this.changed);
    requestAnimationFrame(() => reachScrollers(this.element));
  }

  unmounted() {
    this.seen?.stop();
  }

  /** @returns {string | null} why it cannot be sent yet, in words */
  problem() {
    const missing = this.seen?.missing ?? null;
    if (this.asked.seen && missing !== null) {
      return this.cards.length === 1 ? "Read the reply to its end first" : `Read reply ${letter(missing)} to its end first`;
    }
    return this.form.problem() ?? this.perReply.problem() ?? this.reason.problem();
  }

  /** @returns {string} what the person must confirm before it is sent; empty = nothing */
  confirmation() {
    return this.form.confirmation?.() ?? "";
  }

  /** @returns {any} a Verdict */
  read() {
    const withEdit = this.edit ? { edit: storable(this.edit.text), edit_position: this.edit.position } : {};
    return { kind: this.task.kind, ...withEdit, ...this.perReply.read(), ...this.reason.read(), ...this.form.read() };
  }

  /** @param {any} verdict  an answer given before */
  write(verdict) {
    this.perReply.write(verdict);
    this.reason.write(verdict);
    this.form.write(verdict);
    if (this.task.kind !== "edit" && verdict.edit != null) this.edit = { text: verdict.edit, position: verdict.edit_position };
  }

  /** @param {KeyboardEvent} event @returns {boolean} */
  key(event) {
    if (event.key.toLowerCase() === "f") {
      this.perReply.openFlags(this.form.current ?? this.form.target ?? 0);
      return true;
    }
    if (event.key.toLowerCase() === "r") {
      this.reason.open();
      return true;
    }
    return this.form.key(event);
  }
}
