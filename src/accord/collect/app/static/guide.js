// @ts-check
/** The written rules beside the task: a panel that opens with G, and says when there is a newer version. */
import { ApiError, get } from "./api.js";
import { announce, byId, h } from "./dom.js";
import { markdown } from "./markdown.js";
import { pref, setPref } from "./prefs.js";

export class Guide {
  constructor() {
    this.panel = /** @type {HTMLElement} */ (byId("guide"));
    this.body = /** @type {HTMLElement} */ (byId("guide-body"));
    this.title = /** @type {HTMLElement} */ (byId("guide-title"));
    this.button = /** @type {HTMLElement} */ (byId("guide-button"));
    this.button.addEventListener("click", () => this.toggle());
    byId("guide-close").addEventListener("click", () => this.toggle(false));
    this.panel.addEventListener("keydown", (event) => event.key === "Escape" && this.toggle(false));
    /** @type {number | null} version on the screen */
    this.loaded = null;
    /** @type {number | null} version the current task was served under */
    this.wanted = null;
  }

  /** @param {{version: number} | null} guideline  of the task on the screen */
  follow(guideline) {
    this.wanted = guideline?.version ?? null;
    const unread = this.wanted !== null && Number(pref("guideline", "0")) < this.wanted;
    this.button.classList.toggle("unread", unread);
    this.button.title = unread ? `Version ${this.wanted} is new to you` : "";
    if (!this.panel.hidden && this.loaded !== this.wanted) this.load();
  }

  /** @param {boolean} [open] */
  toggle(open = this.panel.hidden) {
    const was = !this.panel.hidden;
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    document.body.classList.toggle("guide-open", open);
    if (open) {
      this.load();
      this.title.focus();
    } else if (was) this.button.focus();
  }

  async load() {
    if (this.loaded !== null && this.loaded === this.wanted) return;
    try {
      const { version, markdown: text } = await get("/api/v1/guidelines");
      this.loaded = version;
      this.title.textContent = version ? `Guidelines, version ${version}` : "Guidelines";
      this.body.replaceChildren(text ? markdown(text, { links: true }) : h("p.muted", null, "No guidelines have been written yet."));
      if (version) setPref("guideline", String(Math.max(version, Number(pref("guideline", "0")))));
      this.button.classList.remove("unread");
      announce("Guidelines loaded");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.body.replaceChildren(h("p.notice.bad", null, `The guidelines could not be loaded. ${error.message}`));
    }
  }
}
