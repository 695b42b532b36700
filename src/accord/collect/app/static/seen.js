// @ts-check
/**
 * What was in view, and for how long. Both clocks start when every reply has been in view: `dwell_ms` runs on, `seen_ms`
 * stops while the page is hidden. A reply counts as seen once its end has been on the screen.
 */

export class Seen {
  /**
   * @param {Element[]} starts  the first line of each reply
   * @param {Element[]} ends    an empty element after the last line of each reply
   * @param {number} covered  pixels at the bottom of the window that something lies over
   * @param {() => void} onchange
   */
  constructor(starts, ends, covered, onchange) {
    this.count = starts.length;
    this.shown = new Set();
    this.ended = new Set();
    this.onchange = onchange;
    /** @type {number | null} */
    this.startedAt = null;
    this.foreground = 0;
    /** @type {number | null} */
    this.running = null;
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        const start = starts.indexOf(entry.target);
        if (start !== -1) this.shown.add(start);
        else this.ended.add(ends.indexOf(entry.target));
        this.observer.unobserve(entry.target);
      }
      if (this.shown.size === this.count && this.startedAt === null) {
        this.startedAt = performance.now();
        if (!document.hidden) this.running = this.startedAt;
      }
      onchange();
    }, { rootMargin: `0px 0px -${covered}px 0px` });
    for (const element of [...starts, ...ends]) this.observer.observe(element);
    this.visibility = () => this.pause(document.hidden);
    document.addEventListener("visibilitychange", this.visibility);
  }

  /** @param {boolean} hidden */
  pause(hidden) {
    if (hidden && this.running !== null) {
      this.foreground += performance.now() - this.running;
      this.running = null;
    } else if (!hidden && this.startedAt !== null && this.running === null) {
      this.running = performance.now();
    }
  }

  /** @returns {boolean} */
  get all() {
    return this.ended.size >= this.count;
  }

  /** @returns {number | null} the first reply whose end has not been on the screen */
  get missing() {
    for (let position = 0; position < this.count; position += 1) if (!this.ended.has(position)) return position;
    return null;
  }

  /** @returns {{dwell_ms: number, seen_ms: number}} */
  times() {
    const now = performance.now();
    const foreground = this.foreground + (this.running === null ? 0 : now - this.running);
    return { dwell_ms: Math.round(now - (this.startedAt ?? now)), seen_ms: Math.round(foreground) };
  }

  stop() {
    this.observer.disconnect();
    document.removeEventListener("visibilitychange", this.visibility);
  }
}
