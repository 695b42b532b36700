// @ts-check
/**
 * Answers on their way to the server. An answer is written here before anything else happens and leaves only when the
 * server has stored it, so a lost connection, a closed tab or a dead battery costs nothing. The idempotency key makes
 * sending twice harmless. Order is kept: one is sent at a time, oldest first.
 *
 * @typedef {{key: string, path: string, json: any, task: any, at: number, tries: number, refused?: string}} Item
 * @typedef {{waiting: number, refused: Item[], sending: boolean, online: boolean, problem: string, signedOut: boolean, durable: boolean}} State
 */
import { ApiError, post } from "./api.js";

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;

export class Outbox {
  /**
   * @param {string} owner  whose answers: another person's on the same device are left alone
   * @param {{onstate: (state: State) => void, onstored: (item: Item, answer: any) => void}} hooks
   */
  constructor(owner, hooks) {
    this.name = `accord.outbox.${owner}`;
    this.hooks = hooks;
    this.durable = true;
    /** @type {Item[]} */
    this.memory = [];
    this.sending = false;
    this.problem = "";
    this.signedOut = false;
    this.wait = FIRST_WAIT;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {Promise<void> | undefined} */
    this.work = undefined;
    addEventListener("online", () => this.flush());
    addEventListener("focus", () => this.waiting && this.flush()); // signed in again in another tab
    addEventListener("offline", () => this.tell());
    addEventListener("storage", (event) => event.key === this.name && this.tell());
    addEventListener("beforeunload", (event) => {
      if (!this.durable && this.items().length) event.preventDefault();
    });
  }

  /** @returns {Item[]} oldest first */
  items() {
    if (!this.durable) return this.memory;
    try {
      return JSON.parse(localStorage.getItem(this.name) ?? "[]");
    } catch {
      return this.memory;
    }
  }

  /** @param {Item[]} items */
  write(items) {
    this.memory = items;
    try {
      localStorage.setItem(this.name, JSON.stringify(items));
      this.durable = true;
    } catch {
      this.durable = false; // full or forbidden: kept in memory, and the page says so
    }
  }

  /** @returns {State} */
  state() {
    const items = this.items();
    return {
      waiting: items.filter((item) => !item.refused).length,
      refused: items.filter((item) => item.refused),
      sending: this.sending,
      online: navigator.onLine && !this.problem,
      problem: this.problem,
      signedOut: this.signedOut,
      durable: this.durable,
    };
  }

  tell() {
    this.hooks.onstate(this.state());
  }

  /** @param {string} path @param {any} json  has `key` @param {any} task  the task as it was shown */
  put(path, json, task) {
    this.write([...this.items(), { key: json.key, path, json, task, at: Date.now(), tries: 0 }]);
    this.tell();
    return this.flush();
  }

  /**
   * Take back the newest answer that has not been sent yet.
   * @returns {Item | null}
   */
  takeBack() {
    const items = this.items();
    const last = items.at(-1);
    if (!last || last.refused || (this.sending && items.filter((item) => !item.refused).length === 1)) return null;
    this.write(items.slice(0, -1));
    this.tell();
    return last;
  }

  /** @param {string} key */
  drop(key) {
    this.write(this.items().filter((item) => item.key !== key));
    this.tell();
  }

  /** @param {string} key @param {Partial<Item>} change */
  mark(key, change) {
    this.write(this.items().map((item) => (item.key === key ? { ...item, ...change } : item)));
  }

  /** @returns {boolean} */
  get waiting() {
    return this.items().some((item) => !item.refused);
  }

  /**
   * Send what waits. Calls that arrive meanwhile wait for the one at work, and go on if it missed theirs.
   * @returns {Promise<void>}
   */
  flush() {
    if (this.work) return this.work.then(() => (this.waiting && !this.problem ? this.flush() : undefined));
    this.work = this.locked(() => this.drain()).finally(() => (this.work = undefined));
    return this.work;
  }

  /** @param {() => Promise<void>} act  one tab sends at a time */
  async locked(act) {
    if (navigator.locks) await navigator.locks.request(this.name, act);
    else await act();
  }

  async drain() {
    clearTimeout(this.timer);
    for (;;) {
      const item = this.items().find((one) => !one.refused);
      if (!item) break;
      this.sending = true;
      this.tell();
      try {
        const answer = await post(item.path, item.json);
        this.problem = "";
        this.signedOut = false;
        this.wait = FIRST_WAIT;
        this.drop(item.key);
        this.hooks.onstored(item, answer);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (!this.again(item, error)) break;
      } finally {
        this.sending = false;
      }
    }
    this.tell();
  }

  /**
   * After a failure: later, never (the person decides), or after signing in.
   * @param {Item} item @param {ApiError} error @returns {boolean} whether to go on with the next
   */
  again(item, error) {
    if (error.status === 401) {
      this.signedOut = true;
      this.problem = error.message;
      return false;
    }
    if (error.transient) {
      this.problem = error.message;
      this.mark(item.key, { tries: item.tries + 1 });
      this.timer = setTimeout(() => this.flush(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
      return false;
    }
    this.problem = "";
    this.mark(item.key, { refused: error.message });
    return true;
  }
}
