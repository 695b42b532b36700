// @ts-check
/** The qualification quiz: the same tasks, all answered before they are sent, explained afterwards. */
import { ApiError, get, post, setCsrf } from "./api.js";
import { announce, byId, h, isTextField } from "./dom.js";
import { dialogOpen, showHelp } from "./dialogs.js";
import { markdown } from "./markdown.js";
import { keysOn } from "./prefs.js";
import { reachScrollers } from "./reply.js";
import { TaskPage } from "./task.js";

const SCALE = { strength: true, tie: true, both_bad: true, rating: [1, 7], success: false };
const REQUIRE = { rationale: false, seen: true, ratings: false };

class Quiz {
  /** @param {any} quiz */
  constructor(quiz) {
    this.stage = /** @type {HTMLElement} */ (byId("stage"));
    this.dock = /** @type {HTMLElement} */ (byId("dock"));
    this.why = /** @type {HTMLElement} */ (byId("dock-why"));
    this.at = 0;
    this.answers = /** @type {any[]} */ ([]);
    this.pages = quiz.items.map((/** @type {any} */ item) => new TaskPage({ scale: SCALE, require: REQUIRE, flags: [], purpose: "qualification", ...item }, () => this.refresh()));
    this.ids = quiz.items.map((/** @type {any} */ item) => item.id ?? item.task);
    byId("submit").addEventListener("click", () => this.next());
    byId("back").addEventListener("click", () => this.at > 0 && this.show(this.at - 1));
    byId("help-button").addEventListener("click", () => showHelp());
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("resize", () => reachScrollers(this.stage));
    this.show(0);
  }

  get page() {
    return this.pages[this.at];
  }

  /** @param {number} at */
  show(at) {
    this.page.unmounted();
    this.at = at;
    this.stage.replaceChildren(this.page.element);
    byId("dock-form").replaceChildren(this.page.dock);
    this.dock.hidden = false;
    byId("quiz-count").textContent = `Question ${at + 1} of ${this.pages.length}`;
    const bar = /** @type {HTMLProgressElement} */ (byId("quiz-bar"));
    bar.max = this.pages.length;
    bar.value = at;
    scrollTo(0, 0);
    this.page.mounted();
    this.page.heading.focus({ preventScroll: true });
    this.refresh();
  }

  refresh() {
    const problem = this.page.problem();
    this.why.textContent = problem ?? "";
    byId("submit").setAttribute("aria-disabled", String(problem !== null));
    byId("submit-text").textContent = this.at + 1 === this.pages.length ? "Finish" : "Next";
    byId("back").hidden = this.at === 0;
  }

  async next() {
    const problem = this.page.problem();
    if (problem) return announce(problem);
    if (this.at + 1 < this.pages.length) return this.show(this.at + 1);
    const answers = this.pages.map((/** @type {TaskPage} */ page, /** @type {number} */ index) => ({ id: this.ids[index], verdict: page.read() }));
    try {
      return this.result(await post("/api/v1/quiz", { answers }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.why.textContent = error.message;
      return announce(error.message);
    }
  }

  /** @param {any} result */
  result({ passed, right, total, explain, attempts_left: left }) {
    this.dock.hidden = true;
    const heading = h("h1", { tabindex: -1 }, passed ? "You are in" : "Not this time");
    const notes = (explain ?? []).map((/** @type {any} */ one, /** @type {number} */ index) =>
      h("li", null, h("b", null, `Question ${index + 1}: ${one.right ? "right" : "not as expected"}`), one.note ? markdown(one.note) : null),
    );
    const again = left === 0 ? h("p", null, "There are no attempts left. Ask whoever runs the project.") : h("a.button", { href: "/quiz" }, "Try again");
    const onward = passed
      ? [h("a.button.primary", { href: "/label" }, "Start labelling")]
      : [h("a.button.primary", { href: "/guidelines" }, "Read the guidelines again"), again];
    this.stage.replaceChildren(h("section.message", null, heading, h("p", null, `${right} of ${total} as the guidelines say.`), notes.length ? h("ol.notes", null, notes) : "", h("div.message-acts", null, onward)));
    heading.focus();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.defaultPrevented || dialogOpen() || this.dock.hidden) return;
    if (isTextField(event.target) || event.ctrlKey || event.metaKey || event.altKey || !keysOn()) return;
    const onControl = event.target instanceof Element && event.target.closest("button, a, summary, input[type=checkbox]");
    if (event.key === "Enter" && !onControl) this.next();
    else if (event.key === "?") showHelp();
    else if (event.key.startsWith("Arrow") && event.target instanceof Element && event.target.closest("[role=radiogroup]")) return;
    else if (!this.page.key(event)) return;
    event.preventDefault();
  }
}

async function main() {
  const stage = byId("stage");
  try {
    const me = await get("/api/v1/me");
    setCsrf(me.csrf);
    const quiz = await get("/api/v1/quiz");
    if (quiz?.result?.passed || !quiz?.items?.length) {
      const text = quiz?.result?.passed ? "You have passed the quiz of this project." : "This project has no quiz.";
      stage.replaceChildren(h("section.message", null, h("h1", null, "Nothing to do here"), h("p", null, text), h("a.button.primary", { href: "/label" }, "Go to the tasks")));
    } else new Quiz(quiz);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    stage.replaceChildren(h("section.message", null, h("h1", null, "The quiz is not available"), h("p", null, error.message), h("a.button", { href: "/label" }, "Go to the tasks")));
  }
}

main();
