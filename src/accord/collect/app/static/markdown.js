// @ts-check
/**
 * Markdown to DOM for text nobody trusts. Only createElement and textContent; no image is loaded, no link of a model
 * can be clicked, direction overrides are made visible, and every scan is bounded so that no input takes
 * more than linear time.
 *
 * Headings become paragraphs that look like headings: a model's text has no say in the outline of the page.
 */
import { add, h } from "./dom.js";

/** @typedef {{links?: boolean}} Options  links: make http(s) links clickable (guidelines, never model text) */

const SPAN = 4000; // longest stretch, in characters, that one emphasis, code span or link may cover
const DEPTH = 8; // deepest nesting of quotes, lists and emphasis; beyond it text stays text

/** Characters that reorder or hide text: embeddings, overrides, isolates, controls. */
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u202a-\u202e\u2066-\u2069\ufeff]/;

/**
 * Text with the characters that could disguise it shown by their number.
 * @param {string} text
 * @returns {(string | HTMLElement)[]}
 */
export function plain(text) {
  if (!CONTROLS.test(text)) return [text];
  /** @type {(string | HTMLElement)[]} */
  const out = [];
  let start = 0;
  for (let at = 0; at < text.length; at += 1) {
    if (!CONTROLS.test(text[at])) continue;
    if (at > start) out.push(text.slice(start, at));
    const code = (text.codePointAt(at) ?? 0).toString(16).toUpperCase().padStart(4, "0");
    out.push(h("span.md-control", { title: "an invisible control character" }, `U+${code}`));
    start = at + 1;
  }
  if (start < text.length) out.push(text.slice(start));
  return out;
}

/** @param {string} text @param {number} at @param {string} mark @returns {number} end of the run of `mark` from `at` */
function run(text, at, mark) {
  let end = at;
  while (text[end] === mark) end += 1;
  return end;
}

/** @param {string} text @param {string} needle @param {number} from @returns {number} where it is within SPAN, or -1 */
function near(text, needle, from) {
  const found = text.slice(from, from + SPAN).indexOf(needle);
  return found === -1 ? -1 : from + found;
}

const isSpace = (/** @type {string | undefined} */ c) => c === undefined || /\s/.test(c);
const isWord = (/** @type {string | undefined} */ c) => c !== undefined && /[\p{L}\p{N}_]/u.test(c);

/**
 * Where emphasis opened at `from` closes, or -1.
 * @param {string} text @param {number} from first character inside @param {string} mark
 */
function closing(text, from, mark) {
  const limit = Math.min(text.length, from + SPAN);
  for (let at = text.indexOf(mark, from); at !== -1 && at < limit; at = text.indexOf(mark, at + 1)) {
    if (at === from || isSpace(text[at - 1]) || text[at - 1] === "\\") continue;
    if (mark.length === 1 && (text[at + 1] === mark || text[at - 1] === mark)) continue;
    if (mark[0] === "_" && isWord(text[at + mark.length])) continue;
    return at;
  }
  return -1;
}

/** Scans one line of text; remembers which marks have no partner further on, so that nothing is searched twice. */
class Inline {
  /** @param {string} text @param {Options} options @param {number} depth */
  constructor(text, options, depth) {
    this.text = text;
    this.options = options;
    this.depth = depth;
    this.at = 0;
    this.start = 0;
    /** @type {DocumentFragment} */
    this.out = document.createDocumentFragment();
    /** @type {Record<string, number>} nothing closes a mark that opens before this offset */
    this.barren = {};
  }

  /** @param {Node | null} node @param {number} next */
  emit(node, next) {
    if (this.at > this.start) add(this.out, ...plain(this.text.slice(this.start, this.at)));
    if (node) this.out.appendChild(node);
    this.at = next;
    this.start = next;
  }

  code() {
    const end = run(this.text, this.at, "`");
    const fence = this.text.slice(this.at, end);
    const key = `code${fence.length}`;
    if (this.at < (this.barren[key] ?? -1)) return this.skip(end);
    const limit = Math.min(this.text.length, end + SPAN);
    for (let close = this.text.indexOf("`", end); close !== -1 && close < limit; ) {
      const after = run(this.text, close, "`");
      if (after - close === fence.length) {
        const inner = this.text.slice(end, close).replace(/^ (.*\S.*) $/s, "$1");
        return this.emit(h("code", null, ...plain(inner)), after);
      }
      close = this.text.indexOf("`", after);
    }
    this.barren[key] = limit - fence.length;
    return this.skip(end);
  }

  /** @param {number} to */
  skip(to) {
    this.at = to;
  }

  /** @param {string} mark @param {string} tag */
  emphasis(mark, tag) {
    const inside = this.at + mark.length;
    if (isSpace(this.text[inside]) || (mark[0] === "_" && isWord(this.text[this.at - 1]))) return this.skip(inside);
    if (this.at < (this.barren[mark] ?? -1)) return this.skip(inside);
    const close = closing(this.text, inside, mark);
    if (close === -1) {
      this.barren[mark] = inside + SPAN / 2; // half of what was searched: a later opener still sees its own half
      return this.skip(inside);
    }
    const node = h(tag);
    node.appendChild(inline(this.text.slice(inside, close), this.options, this.depth + 1));
    return this.emit(node, close + mark.length);
  }

  link() {
    const image = this.text[this.at] === "!";
    const open = this.at + (image ? 2 : 1);
    const middle = near(this.text, "](", open);
    if (middle === -1) return this.skip(open);
    const close = near(this.text, ")", middle + 2);
    const target = close === -1 ? "" : this.text.slice(middle + 2, close).trim();
    if (!target || /\n/.test(target)) return this.skip(open);
    const label = this.text.slice(open, middle);
    this.emit(reference(image, label, target.replace(/\s+["'(].*$/s, ""), this.options, this.depth), close + 1);
  }

  /** @returns {DocumentFragment} */
  run() {
    const { text } = this;
    while (this.at < text.length) {
      const c = text[this.at];
      if (c === "\\" && /[\\`*_{}[\]()#+\-.!~|>]/.test(text[this.at + 1] ?? "")) {
        this.emit(null, this.at + 1);
        this.at += 1;
      } else if (c === "`") this.code();
      else if (c === "*" || c === "_") this.emphasis(text[this.at + 1] === c ? c + c : c, text[this.at + 1] === c ? "strong" : "em");
      else if (c === "~" && text[this.at + 1] === "~") this.emphasis("~~", "s");
      else if (c === "[" || (c === "!" && text[this.at + 1] === "[")) this.link();
      else if (c === "\n") this.emit(h("br"), this.at + 1);
      else this.at += 1;
    }
    this.emit(null, this.at);
    return this.out;
  }
}

/**
 * A link or an image: always with its address in sight; never loaded, clickable only in guidelines.
 * @param {boolean} image @param {string} label @param {string} target @param {Options} options @param {number} depth
 */
function reference(image, label, target, options, depth) {
  const safe = /^https?:\/\//i.test(target);
  if (options.links && safe && !image) {
    const anchor = h("a", { href: target, rel: "noopener noreferrer nofollow", target: "_blank" });
    anchor.appendChild(inline(label, {}, depth + 1));
    return anchor;
  }
  const node = h("span.md-link");
  if (image) add(node, "image: ");
  node.appendChild(inline(label, {}, depth + 1));
  add(node, " ", h("code.md-url", null, ...plain(target)));
  return node;
}

/** @param {string} text @param {Options} options @param {number} depth @returns {DocumentFragment} */
function inline(text, options, depth) {
  if (depth > DEPTH) {
    const flat = document.createDocumentFragment();
    add(flat, ...plain(text));
    return flat;
  }
  return new Inline(text, options, depth).run();
}

// None of these can backtrack more than a line's length: they are matched against hostile text.
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s([^]*)$/;

/** @param {string} line */
const starts = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || /^ {0,3}>/.test(line);

/** @param {string} line @returns {string} a heading without its marks */
function headingText(line) {
  const text = line.trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  return text.slice(run(text, 0, "#"), end).trim();
}

/** @param {string[]} lines @param {number} at @returns {[HTMLElement, number]} */
function fence(lines, at) {
  const [, mark, info] = /** @type {RegExpExecArray} */ (FENCE.exec(lines[at]));
  let end = at + 1;
  while (end < lines.length && !(lines[end].trimStart().startsWith(mark) && lines[end].trim().replaceAll(mark[0], "") === "")) end += 1;
  const language = info.trim().split(/\s+/)[0].slice(0, 24);
  const pre = h("pre", { "data-language": language || null }, h("code", null, ...plain(lines.slice(at + 1, end).join("\n"))));
  return [pre, Math.min(end + 1, lines.length)];
}

/** @param {string[]} lines @param {number} at @param {Options} options @param {number} depth @returns {[HTMLElement, number]} */
function quote(lines, at, options, depth) {
  let end = at;
  while (end < lines.length && (/^ {0,3}>/.test(lines[end]) || (lines[end].trim() && !starts(lines[end])))) end += 1;
  const node = h("blockquote");
  blocks(node, lines.slice(at, end).map((line) => line.replace(/^ {0,3}> ?/, "")), options, depth + 1);
  return [node, end];
}

/** @param {string[]} lines @param {number} at @param {Options} options @param {number} depth @returns {[HTMLElement, number]} */
function list(lines, at, options, depth) {
  const [, indent, marker] = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  const ordered = /\d/.test(marker);
  const number = ordered ? Number.parseInt(marker, 10) : 1;
  const node = h(ordered ? "ol" : "ul", number === 1 ? null : { start: number });
  let here = at;
  while (here < lines.length) {
    const found = ITEM.exec(lines[here]);
    if (!found || found[1].length > indent.length + 1 || found[1].length < indent.length || /\d/.test(found[2]) !== ordered) break;
    const width = found[1].length + found[2].length + 1;
    const inner = [found[3].trimStart()];
    here += 1;
    while (here < lines.length) {
      const line = lines[here];
      const next = ITEM.exec(line);
      if (next && next[1].length < indent.length + 2) break;
      if (!line.trim() && !/^\s{2,}\S/.test(lines[here + 1] ?? "")) break;
      if (!next && line.trim() && !/^\s/.test(line) && starts(line)) break;
      inner.push(line.slice(Math.min(width, line.length - line.trimStart().length)));
      here += 1;
    }
    const item = h("li");
    blocks(item, inner, options, depth + 1, true);
    node.appendChild(item);
    while (here < lines.length && !lines[here].trim() && ITEM.test(lines[here + 1] ?? "")) here += 1;
  }
  return [node, here];
}

/** @param {string} line @returns {string[]} */
const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());

/** @param {string | undefined} line @returns {boolean} whether this is the line under a table's head */
const tableRule = (line) => line !== undefined && line.includes("-") && cells(line).every((cell) => /^:?-+:?$/.test(cell));

/** @param {string[]} lines @param {number} at @param {Options} options @param {number} depth @returns {[HTMLElement, number]} */
function table(lines, at, options, depth) {
  const row = (/** @type {string} */ line, /** @type {string} */ tag) =>
    h("tr", null, cells(line).slice(0, 40).map((cell) => {
      const node = h(tag, tag === "th" ? { scope: "col" } : null);
      node.appendChild(inline(cell, options, depth + 1));
      return node;
    }));
  const body = h("tbody");
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim()) {
    body.appendChild(row(lines[end], "td"));
    end += 1;
  }
  return [h("div.md-table", null, h("table", null, h("thead", null, row(lines[at], "th")), body)), end];
}

/**
 * Append the blocks of these lines to a node.
 * @param {Element} parent @param {string[]} lines @param {Options} options @param {number} depth
 * @param {boolean} [tight] first paragraph without <p>, as in list items
 */
function blocks(parent, lines, options, depth, tight = false) {
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) {
      at += 1;
      continue;
    }
    /** @type {[HTMLElement, number] | null} */
    let made = null;
    const heading = HEADING.exec(line);
    if (depth > DEPTH) made = [h("p", null, ...plain(lines.slice(at).join("\n"))), lines.length];
    else if (FENCE.test(line)) made = fence(lines, at);
    else if (heading) {
      made = [h(`p.md-heading.md-h${heading[1].length}`), at + 1];
      made[0].appendChild(inline(headingText(line), options, 0));
    } else if (RULE.test(line)) made = [h("hr"), at + 1];
    else if (/^ {0,3}>/.test(line)) made = quote(lines, at, options, depth);
    else if (ITEM.test(line)) made = list(lines, at, options, depth);
    else if (line.includes("|") && tableRule(lines[at + 1])) made = table(lines, at, options, depth);
    if (made) {
      parent.appendChild(made[0]);
      at = made[1];
      continue;
    }
    let end = at + 1;
    while (end < lines.length && lines[end].trim() && !starts(lines[end])) end += 1;
    const content = inline(lines.slice(at, end).map((l) => l.trim()).join("\n"), options, 0);
    if (tight && at === 0) parent.appendChild(content);
    else {
      const paragraph = h("p");
      paragraph.appendChild(content);
      parent.appendChild(paragraph);
    }
    at = end;
  }
}

/**
 * Render Markdown into a fresh element.
 * @param {string} text
 * @param {Options} [options]
 * @returns {HTMLElement}
 */
export function markdown(text, options = {}) {
  const node = h("div.md", { dir: "auto" });
  blocks(node, text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"), options, 0);
  return node;
}
