// @ts-check
/** Tables and small figures of the administration. */
import { h, svg } from "./dom.js";

/**
 * @typedef {{head: string, cell: (row: any) => any, number?: boolean, free?: boolean, main?: boolean}} Column
 *   number: right aligned; free: long text may wrap; main: the row's header
 */

/**
 * @param {string} caption read aloud
 * @param {Column[]} columns
 * @param {any[]} rows
 * @param {{empty?: string, off?: (row: any) => boolean}} [options]
 * @returns {HTMLElement}
 */
export function table(caption, columns, rows, { empty = "Nothing here yet.", off } = {}) {
  if (!rows.length) return h("p.muted", null, empty);
  const kind = (/** @type {Column} */ column) => (column.number ? "number" : column.free ? "free" : null);
  const head = h("tr", null, columns.map((column) => h("th", { scope: "col", class: kind(column) }, column.head || h("span.sr", null, "Actions"))));
  const body = rows.map((row) =>
    h("tr", { class: off?.(row) ? "off" : null }, columns.map((column) => h(column.main ? "th" : "td", { scope: column.main ? "row" : null, class: kind(column) }, column.cell(row)))),
  );
  return h("div.table-wrap", null, h("table", null, h("caption.sr", null, caption), h("thead", null, head), h("tbody", null, body)));
}

/** @param {[string, any][]} pairs @returns {HTMLElement} numbers in a row */
export const figures = (pairs) => h("dl.figures", null, pairs.map(([name, value]) => h("div.figure", null, h("dt", null, name), h("dd", null, value))));

/** @param {string} kind @param {string} text */
export const pill = (kind, text) => h(`span.pill${kind ? `.${kind}` : ""}`, null, text);

/** @param {number | null | undefined} share @returns {string} */
export const percent = (share) => (share === null || share === undefined ? "-" : `${Math.round(share * 100)} %`);

/** @param {string | null | undefined} time @returns {string} in the reader's own zone, without the year when it is this one */
export function when(time) {
  if (!time) return "-";
  const date = new Date(time);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return date.toLocaleString(undefined, { year, month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
}

/**
 * A value with its interval on a line.
 * @param {number} value @param {number | null} low @param {number | null} high @param {[number, number]} range @param {string} label
 * @returns {SVGElement}
 */
export function interval(value, low, high, [from, to], label) {
  const x = (/** @type {number} */ v) => 6 + (188 * (Math.min(to, Math.max(from, v)) - from)) / (to - from);
  const zero = from < 0 && svg("line.track", { x1: x(0), x2: x(0), y1: 5, y2: 21 });
  return svg(
    "svg.meter",
    { viewBox: "0 0 200 26", role: "img", "aria-label": label, preserveAspectRatio: "xMinYMid meet" },
    svg("line.track", { x1: 6, x2: 194, y1: 13, y2: 13 }),
    zero,
    low !== null && high !== null && svg("line.range", { x1: x(low), x2: x(high), y1: 13, y2: 13 }),
    svg("circle.point", { cx: x(value), cy: 13, r: 5.5 }),
  );
}

/** @param {{day: string, count: number}[]} days @returns {Node} bars, newest on the right */
export function dayBars(days) {
  const shown = days.slice(-28);
  const most = Math.max(1, ...shown.map((day) => day.count));
  const step = 640 / Math.max(14, shown.length);
  const total = shown.reduce((sum, day) => sum + day.count, 0);
  const bars = shown.map((day, index) =>
    svg("rect", { x: index * step + 1, width: step - 4, y: 118 - (100 * day.count) / most, height: (100 * day.count) / most, rx: 2 }, svg("title", null, `${day.day}: ${day.count}`)),
  );
  const label = (/** @type {number} */ index) => shown[index] && svg("text", { x: index * step + 1, y: 136 }, shown[index].day.slice(5));
  return svg(
    "svg.days",
    { viewBox: "0 0 640 142", role: "img", "aria-label": `${total} answers in ${shown.length} days, at most ${most} a day`, preserveAspectRatio: "xMinYMid meet" },
    svg("text", { x: 1, y: 11 }, `${most} a day`),
    bars,
    label(0),
    shown.length > 2 ? label(shown.length - 1) : null,
  );
}
