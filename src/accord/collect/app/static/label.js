// @ts-check
/** The labelling page: one task at a time, keys first, every answer safe before the next task is painted. */
import { ApiError, get, newKey, post, setCsrf } from "./api.js";
import { askEdit, askSkip, dialogOpen, showHelp } from "./dialogs.js";
import { announce, byId, h, isTextField, letter } from "./dom.js";
import { Guide } from "./guide.js";
import { Outbox } from "./outbox.js";
import { keysOn } from "./prefs.js";
import { Queue } from "./queue.js";
import { reachScrollers } from "./reply.js";
import { showProgress, showSaved } from "./status.js";
import { TaskPage } from "./task.js";

class Label {
  /** @param {any} me  the person, from /api/v1/me */
  constructor(me) {
    this.stage = /** @type {HTMLElement} */ (byId("stage"));
    this.dock = /** @type {HTMLElement} */ (byId("dock"));
    this.form = /** @type {HTMLElement} */ (byId("dock-form"));
    this.why = /** @type {HTMLElement} */ (byId("dock-why"));
    this.submitButton = /** @type {HTMLElement} */ (byId("submit"));
    this.guide = new Guide();
    this.outbox = new Outbox(me.handle, {
      onstate: (state) => showSaved(state, { retry: () => this.outbox.flush(), reopen: (item) => this.reopen(item), discard: (item) => this.discard(item) }),
      onstored: (_, answer) => {
        showProgress(answer?.progress);
        announce("Saved");
        this.queue.prefetch();
      },
    });
    this.queue = new Queue(() => this.refresh(), () => this.outbox.state().waiting === 0);
    this.confirming = false;
    this.undoable = false;
    this.busy = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.again = undefined;
    this.usedKeys = false;
    this.listen();
  }

  listen() {
    this.submitButton.addEventListener("click", () => this.submit());
    byId("skip").addEventListener("click", () => this.skip());
    byId("undo").addEventListener("click", () => this.undo());
    byId("edit").addEventListener("click", () => this.edit());
    byId("reason").addEventListener("click", () => this.queue.current?.reason.open());
    byId("help-button").addEventListener("click", () => showHelp());
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("resize", () => reachScrollers(this.stage));
  }

  async start() {
    this.outbox.tell();
    await this.outbox.flush();
    await this.advance();
  }

  /** Show the next task; at once when it is ready. */
  async advance() {
    clearTimeout(this.again);
    const next = this.queue.next();
    if (next instanceof TaskPage) return this.show(next);
    this.message("Fetching the next task", []);
    let page;
    try {
      page = await next;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return this.failed(error);
    }
    return page ? this.show(page) : this.empty();
  }

  /** @param {TaskPage} page */
  show(page) {
    this.queue.current = page;
    this.confirming = false;
    this.undoable = this.undoable || page.task.can_undo;
    this.stage.replaceChildren(page.element);
    this.form.replaceChildren(page.dock);
    this.dock.hidden = false;
    byId("edit").hidden = page.task.kind === "edit";
    scrollTo(0, 0);
    page.mounted();
    page.heading.focus({ preventScroll: true });
    this.refresh();
    showProgress(page.task.progress);
    this.guide.follow(page.task.guideline);
    this.queue.prefetch();
  }

  /** @param {string} title @param {(Node | string)[]} parts */
  message(title, parts) {
    this.dock.hidden = true;
    const heading = h("h1", { tabindex: -1 }, title);
    this.stage.replaceChildren(h("section.message", null, heading, ...parts));
    heading.focus({ preventScroll: true });
  }

  empty() {
    const undo = this.undoable ? h("button.button", { type: "button", onclick: () => this.undo() }, "Undo the last answer") : "";
    const look = h("button.button.primary", { type: "button", onclick: () => this.advance() }, "Look again");
    this.message("Nothing left for you right now", [
      h("p", null, "Every task that is open to you has its answers. New ones may come; this page looks again by itself."),
      h("div.message-acts", null, look, undo),
    ]);
    this.again = setTimeout(() => this.advance(), this.queue.retryAfter * 1000);
  }

  /** @param {ApiError} error */
  failed(error) {
    if (error.status === 401) return this.message("Your session has ended", [h("p", null, h("a", { href: "/login?next=%2Flabel" }, "Sign in again"), ". Nothing is lost.")]);
    if (error.status === 403) {
      return this.message("No tasks for you yet", [h("p", null, error.message), h("p", null, h("a.button.primary", { href: "/quiz" }, "Go to the quiz"))]);
    }
    this.again = setTimeout(() => this.advance(), error.status === 429 ? 60_000 : 5000);
    const title = error.status === 429 ? "That is all for now" : "No connection to the server";
    return this.message(title, [
      h("p", null, error.status === 429 ? error.message : "Answers already given are kept on this device. This page tries again by itself."),
      h("div.message-acts", null, h("button.button", { type: "button", onclick: () => this.advance() }, "Try now")),
    ]);
  }

  /** Bring the dock in line with the answer so far. */
  refresh() {
    const page = this.queue.current;
    if (!page) return;
    if (this.confirming && !page.confirmation()) this.confirming = false;
    const problem = page.problem();
    this.submitButton.setAttribute("aria-disabled", String(problem !== null));
    this.submitButton.firstChild && (this.submitButton.firstChild.textContent = this.confirming ? "Confirm" : "Send");
    this.why.textContent = this.confirming ? `${page.confirmation()}. Enter again to send.` : problem ?? (page.edit ? `With your version of reply ${letter(page.edit.position)}` : "");
    this.why.classList.toggle("confirm", this.confirming);
    const undo = byId("undo");
    undo.setAttribute("aria-disabled", String(!this.undoable));
  }

  submit() {
    const page = this.queue.current;
    if (!page) return;
    const problem = page.problem();
    if (problem) return this.nudge(problem);
    if (page.confirmation() && !this.confirming) {
      this.confirming = true;
      this.refresh();
      announce(`${page.confirmation()}. Press Enter again to send.`);
      return;
    }
    const json = {
      assignment: page.task.assignment,
      key: newKey(),
      verdict: page.read(),
      ...page.seen?.times(),
      client: { width: innerWidth, keys: this.usedKeys, touch: matchMedia("(pointer: coarse)").matches },
    };
    this.usedKeys = false;
    this.leave("/api/v1/submit", json, page);
  }

  /** @param {string} text  why not, seen and heard */
  nudge(text) {
    announce(text);
    this.why.classList.remove("nudge");
    requestAnimationFrame(() => this.why.classList.add("nudge"));
  }

  /** @param {string} path @param {any} json @param {TaskPage} page */
  leave(path, json, page) {
    this.undoable = true;
    const sent = this.outbox.put(path, json, page.task);
    const ready = this.queue.ahead.length > 0;
    if (ready) this.advance();
    else {
      this.queue.current = null;
      page.unmounted();
      this.message("Saving", []);
      sent.then(() => this.advance());
    }
  }

  skip() {
    const page = this.queue.current;
    if (!page) return;
    askSkip((reason, comment) => this.leave("/api/v1/skip", { assignment: page.task.assignment, key: newKey(), reason, comment }, page));
  }

  /** Take the last answer back: from the outbox if it is still here, else from the server. */
  async undo() {
    if (!this.undoable || this.busy) return;
    this.busy = true;
    try {
      const item = this.outbox.takeBack();
      if (item) this.open(item.task, item.json.verdict);
      else {
        await this.outbox.flush();
        const task = await post("/api/v1/undo", {});
        if (task) this.open(task, task.previous);
      }
      announce("Your last answer is open again");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.undoable = this.undoable && error.transient;
      this.why.textContent = error.message;
      this.nudge(error.message);
    } finally {
      this.busy = false;
    }
  }

  /** @param {any} task @param {any} verdict */
  open(task, verdict) {
    clearTimeout(this.again);
    const page = this.queue.build({ ...task, previous: verdict ?? null });
    this.queue.putBack(page);
    this.undoable = false; // unless the task says that there is more to take back
    this.show(page);
  }

  /** @param {any} item  an answer the server refused */
  reopen(item) {
    this.outbox.drop(item.key);
    this.open(item.task, item.json.verdict);
  }

  /** @param {any} item */
  discard(item) {
    if (confirm("Discard this answer? It is not stored on the server.")) this.outbox.drop(item.key);
  }

  edit() {
    const page = this.queue.current;
    if (!page) return;
    if (page.task.kind === "edit") return page.form.key(new KeyboardEvent("keydown", { key: "e" }));
    return askEdit({
      texts: page.cards.map((card) => card.text),
      position: page.edit?.position ?? page.form.target,
      text: page.edit?.text ?? null,
      onsave: (text, position) => {
        page.edit = text === null ? null : { text, position };
        this.refresh();
      },
    });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.defaultPrevented || dialogOpen() || event.isComposing) return;
    const inText = isTextField(event.target);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return this.take(event, () => this.submit());
    if (inText) {
      if (event.key === "Escape") /** @type {HTMLElement} */ (event.target).blur();
      return undefined;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || !keysOn()) return undefined;
    if (event.key === "Escape" && this.confirming) {
      this.confirming = false;
      return this.refresh();
    }
    const element = event.target instanceof Element ? event.target : null;
    if ((event.key === "Enter" || event.key === " ") && element?.closest("button, a, summary, input[type=checkbox]")) return undefined;
    return this.command(event, element);
  }

  /** @param {KeyboardEvent} event @param {Element | null} element */
  command(event, element) {
    /** @type {Record<string, () => void>} */
    const commands = {
      enter: () => this.submit(),
      s: () => this.skip(),
      u: () => this.undo(),
      e: () => this.edit(),
      g: () => this.guide.toggle(),
      "?": () => showHelp(),
    };
    const command = commands[event.key.toLowerCase()];
    if (command) return event.repeat ? undefined : this.take(event, command);
    if (event.key.startsWith("Arrow") && element?.closest("[role=radiogroup], pre, .md-table")) return undefined;
    if (this.queue.current?.key(event)) {
      this.usedKeys = true;
      event.preventDefault();
    }
    return undefined;
  }

  /** @param {KeyboardEvent} event @param {() => void} act */
  take(event, act) {
    event.preventDefault();
    this.usedKeys = true;
    act();
  }
}

/** Start once the server says who this is. */
async function main() {
  document.documentElement.dataset.keys = keysOn() ? "on" : "off";
  try {
    const me = await get("/api/v1/me");
    setCsrf(me.csrf);
    await new Label(me).start();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const again = h("button.button", { type: "button", onclick: () => location.reload() }, "Try again");
    byId("stage").replaceChildren(h("section.message", null, h("h1", null, "The page cannot start"), h("p", null, error.message), again));
  }
}

main();
