// @ts-check
/**
 * What a task asks, read from the server's TaskView once, so that forms need not know its shape.
 *
 * @typedef {{assignment: string, kind: "pair"|"rank"|"rate"|"edit", purpose: string, messages: {role: string, content: string}[],
 *   candidates: {position: number, text: string}[], flags: string[],
 *   scale: {strength: boolean, tie: boolean, both_bad: boolean, rating: [number, number], success: boolean},
 *   require: {rationale: boolean, seen: boolean, ratings: boolean},
 *   guideline: {id: string, version: number} | null, lease_expires_at: string, progress: any, can_undo: boolean, previous?: any}} Task
 * @typedef {{strength: boolean, tie: boolean, bothBad: boolean, ratings: boolean, ratingsOffered: boolean, low: number, high: number,
 *   success: boolean, rationale: boolean, seen: boolean}} Asked
 */

/** @param {Task} task @returns {Asked} */
export function asked(task) {
  const { scale, require } = task;
  const [low, high] = scale.rating ?? [1, 7];
  return {
    strength: scale.strength,
    tie: scale.tie,
    bothBad: scale.both_bad,
    ratings: task.kind === "rate" || require.ratings,
    ratingsOffered: task.kind !== "edit",
    low,
    high,
    success: Boolean(scale.success),
    rationale: require.rationale,
    seen: require.seen,
  };
}

/** @param {string} text @returns {string} text every database takes: no NUL, no half of a surrogate pair */
export function storable(text) {
  const whole = /** @type {any} */ (text).toWellFormed?.() ?? text;
  return whole.replaceAll("\u0000", "");
}

const TITLES = {
  pair: "Which reply is better?",
  rank: "Put the replies in order",
  rate: "How good is this reply?",
  edit: "Make this the reply you would want",
};

const KICKERS = { pair: "Comparison", rank: "Ranking", rate: "Rating", edit: "Rewriting" };

/** @param {Task} task @returns {{title: string, kicker: string}} */
export function wording(task) {
  const many = task.candidates.length > 1;
  const title = many && task.kind === "rate" ? "How good are these replies?" : TITLES[task.kind];
  const purpose = task.purpose === "evaluation" ? "Evaluation, " : task.purpose === "qualification" ? "Practice, " : "";
  const kicker = purpose ? purpose + KICKERS[task.kind].toLowerCase() : KICKERS[task.kind];
  return { title, kicker };
}

/**
 * An answer in short words, for confirmation, undo and adjudication.
 * @param {any} verdict @param {(position: number) => string} name @returns {string}
 */
export function inWords(verdict, name) {
  if (verdict.both_bad) return "Both bad";
  if (verdict.tie) return "Tie";
  if (verdict.position !== null && verdict.position !== undefined) {
    const degree = ["better", "slightly better", "better", "much better"][verdict.strength ?? 0];
    return `${name(verdict.position)} ${degree}`;
  }
  if (verdict.ranking) return verdict.ranking.map((/** @type {number[]} */ group) => group.map(name).join(" = ")).join(" > ");
  if (verdict.edit !== null && verdict.edit !== undefined) return `Rewrote ${name(verdict.edit_position)}`;
  if (verdict.ratings) return verdict.ratings.map((/** @type {number | null} */ r, /** @type {number} */ i) => `${name(i)}: ${r ?? "-"}`).join(", ");
  if (verdict.success) return verdict.success.map((/** @type {boolean | null} */ s, /** @type {number} */ i) => `${name(i)}: ${s ? "yes" : "no"}`).join(", ");
  return "No answer";
}
