// @ts-check
/**
 * The tasks a person holds: the current one and one fetched ahead, built and ready to paint. The server allows two open
 * leases, so the next is fetched only after the last answer has arrived.
 */
import { ApiError, beacon, call, post, project } from "./api.js";
import { TaskPage } from "./task.js";

/** @typedef {import("./shape.js").Task} Task */

const IDLE_AGAIN = 15; // seconds until an empty queue is asked again, unless the server says otherwise

export class Queue {
  /** @param {() => void} onchange of the page on the screen @param {() => boolean} canFetch no answer is on its way */
  constructor(onchange, canFetch) {
    this.onchange = onchange;
    this.canFetch = canFetch;
    /** @type {TaskPage | null} */
    this.current = null;
    /** @type {TaskPage[]} ready, oldest first */
    this.ahead = [];
    /** @type {Promise<TaskPage | null> | null} */
    this.fetching = null;
    this.retryAfter = IDLE_AGAIN;
    addEventListener("pagehide", () => this.letGo());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
    document.addEventListener("visibilitychange", () => this.beat());
    setInterval(() => this.beat(), 60_000);
  }

  /** @param {Task} task @returns {TaskPage} */
  build(task) {
    return new TaskPage(task, () => this.onchange());
  }

  /**
   * One task from the server, or null when there is none for this person now.
   * @param {boolean} prefetch @returns {Promise<TaskPage | null>}
   * @throws {ApiError}
   */
  async claim(prefetch) {
    const { status, body, headers } = await call("POST", `/api/v1/claim${prefetch ? "?prefetch=1" : ""}`, { json: { project: project() } });
    if (status === 204 || !body) {
      this.retryAfter = Number(headers.get("retry-after")) || IDLE_AGAIN;
      return null;
    }
    const held = [this.current, ...this.ahead].some((page) => page?.task.assignment === body.assignment);
    return held ? null : this.build(body);
  }

  /** Fetch the next one ahead, quietly: a failure is tried again when the task is needed. */
  async prefetch() {
    if (this.fetching || this.ahead.length || !this.current || !this.canFetch()) return;
    this.fetching = this.claim(true).catch((error) => {
      if (error instanceof ApiError) return null;
      throw error;
    });
    const page = await this.fetching;
    this.fetching = null;
    if (page) this.ahead.push(page);
  }

  /**
   * The next page to show.
   * @returns {Promise<TaskPage | null> | TaskPage} at once when one is ready
   */
  next() {
    this.current?.unmounted();
    this.current = null;
    return this.ahead.shift() ?? this.fetched();
  }

  async fetched() {
    if (this.fetching) {
      await this.fetching;
      const ready = this.ahead.shift();
      if (ready) return ready;
    }
    return this.claim(false);
  }

  /** @param {TaskPage} page  goes back on the screen before the current one */
  putBack(page) {
    this.current?.unmounted();
    if (this.current) this.ahead.unshift(this.current);
    this.current = page;
  }

  /** Keep the leases of what is held. */
  beat() {
    if (document.hidden) return;
    for (const page of [this.current, ...this.ahead]) {
      if (!page) continue;
      post("/api/v1/heartbeat", { assignment: page.task.assignment }).catch((error) => {
        if (!(error instanceof ApiError)) throw error; // unreachable: a late answer is still taken
      });
    }
  }

  /** The page closes: give back what is held, so that somebody else gets it. */
  letGo() {
    for (const page of [this.current, ...this.ahead]) if (page) beacon("/api/v1/release", { assignment: page.task.assignment });
  }
}
