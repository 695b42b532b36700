// @ts-check
/** The rules of the project, grouped by what they decide. What the page does not know is kept as it is. */
import { get, post } from "./api.js";
import { h } from "./dom.js";

/** @typedef {[name: string, label: string, hint?: string]} Entry */

const GROUPS = /** @type {[string, string, Entry[]][]} */ ([
  ["What is asked", "", [
    ["strength", "Ask how much better", "The seven-point scale; off: A, tie or B"],
    ["tie", "Offer a tie"],
    ["both_bad", "Offer both bad"],
    ["require_rationale", "Ask for a reason"],
    ["require_ratings", "Ask for a rating of every reply"],
    ["min_seen", "Wait until every reply was read to its end"],
    ["flags", "Flags", "Separated by commas"],
  ]],
  ["How many answers", "Agreement is measured on the random slice only, so it must get more than one.", [
    ["overlap", "Answers per task"],
    ["random_slice", "Share in the random slice", "0 to 1"],
    ["slice_overlap", "Answers per task there"],
    ["escalate_overlap", "Answers when people disagree"],
    ["escalate_below", "They disagree below", "Share of equal answers, 0 to 1"],
    ["adjudicate_below", "An adjudicator decides below", "Share of equal answers, 0 to 1"],
    ["skips_to_adjudicate", "Skips that send it to an adjudicator"],
  ]],
  ["Hidden tests", "", [
    ["gold_rate", "Share of test items", "0 to 1"],
    ["gold_rate_new", "The same for new people", "0 to 1"],
    ["gold_new", "New for at least so many test items", "and until they speak for the person; 0: nobody is new"],
    ["repeat_rate", "Share of swapped repeats", "0 to 1"],
    ["repeat_after", "Answers between task and repeat"],
    ["gate", "People are stopped"],
    ["gate_bad", "Share right of a bad annotator", "0 to 1"],
    ["gate_good", "Share right of a good one", "0 to 1"],
    ["gate_least", "Test items before anyone is stopped"],
  ]],
  ["Pace", "", [
    ["lease_seconds", "A task is held for", "Seconds; a page in use extends it"],
    ["daily_cap", "Answers a person a day", "Empty: no limit"],
    ["tie_policy", "A vote without majority is"],
  ]],
]);

const QUIZ = /** @type {Entry[]} */ ([
  ["items", "Questions in one attempt"],
  ["rule", "An attempt is passed by"],
  ["share", "Share that must be right", "0 to 1"],
  ["confidence", "Certainty of the posterior", "0.5 to 1"],
  ["attempts", "Attempts a person has"],
]);

const CHOICES = /** @type {Record<string, Record<string, string>>} */ ({
  "quiz_pass.rule": { share: "the share right", beta: "a posterior: surely that share" },
  gate: { sprt: "by a sequential test", beta: "by a posterior", off: "nobody" },
  tie_policy: { tie: "a tie", drop: "dropped", adjudicate: "adjudicated", random: "drawn" },
});

/** @param {Entry} entry @param {any} value @returns {{element: HTMLElement, read: () => any}} */
function control([name, label, hint], value) {
  const id = `setting-${name}`;
  const about = hint ? { "aria-describedby": `${id}-hint` } : {};
  const note = hint ? h("p.hint", { id: `${id}-hint` }, hint) : null;
  if (typeof value === "boolean") {
    const box = /** @type {HTMLInputElement} */ (h("input", { id, type: "checkbox", role: "switch", checked: value }));
    return { element: h("label.switch", null, box, h("span", null, label, hint ? h("small", null, hint) : null)), read: () => box.checked };
  }
  if (CHOICES[name]) {
    const select = /** @type {HTMLSelectElement} */ (h("select", { id, ...about }, Object.entries(CHOICES[name]).map(([one, words]) => h("option", { value: one, selected: one === value }, words))));
    return { element: h("div.field", null, h("label", { for: id }, label), select, note), read: () => select.value };
  }
  if (Array.isArray(value)) {
    const text = /** @type {HTMLTextAreaElement} */ (h("textarea", { id, rows: 4, ...about }, value.join(", ")));
    return { element: h("div.field", null, h("label", { for: id }, label), text, note), read: () => text.value.split(",").map((one) => one.trim()).filter(Boolean) };
  }
  const field = /** @type {HTMLInputElement} */ (h("input", { id, type: "number", step: "any", min: 0, value: value ?? "", ...about }));
  return { element: h("div.field", null, h("label", { for: id }, label), field, note), read: () => (field.value === "" ? null : Number(field.value)) };
}

/** The quiz: a switch, and its rules once it is on; the server knows what a new one starts with. @param {any} rule */
function quiz(rule) {
  const on = control(["quiz_pass", "Ask for a quiz first", "It needs questions: accord collect quiz FILE"], rule !== null);
  const parts = rule === null ? [] : QUIZ.map(([name, label, hint]) => ({ name, ...control([`quiz_pass.${name}`, label, hint], rule[name]) }));
  const read = () => (on.read() ? Object.fromEntries(parts.map((part) => [part.name, part.read()])) : null);
  return { elements: [on, ...parts].map((part) => part.element), read };
}

/** @param {import("./admin.js").Room} room */
export async function show({ root, attempt, reload }) {
  const settings = await get("/api/v1/admin/settings");
  /** @type {Record<string, () => any>} */
  const readers = {};
  const groups = GROUPS.map(([title, lead, entries]) => {
    const controls = entries.filter(([name]) => name in settings).map((entry) => {
      const made = control(entry, settings[entry[0]]);
      readers[entry[0]] = made.read;
      return made.element;
    });
    return h("section.panel", null, h("h2", null, title), lead ? h("p.muted", null, lead) : null, h("div.settings-grid", null, controls));
  });
  const asked = quiz(settings.quiz_pass);
  readers.quiz_pass = asked.read;
  groups.push(h("section.panel", null, h("h2", null, "Quiz"), h("p.muted", null, "Passed before the first task; who has passed goes on."), h("div.settings-grid", null, asked.elements)));
  const form = h("form.block", null, ...groups, h("div", null, h("button.button.primary", { type: "submit" }, "Save settings")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const changed = Object.fromEntries(Object.entries(readers).map(([name, read]) => [name, read()]));
    if (await attempt(() => post("/api/v1/admin/settings", { ...settings, ...changed }), "Saved. It holds for every task served from now on.")) await reload();
  });
  root.replaceChildren(form);
}
