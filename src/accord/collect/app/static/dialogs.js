// @ts-check
/** Dialogs on the native element: focus stays inside, Escape closes, the page behind is inert. */
import { h, letter } from "./dom.js";
import { Editor } from "./edit.js";
import { keysOn, pref, setPref, setTheme } from "./prefs.js";
import { scale } from "./scale.js";

/**
 * @param {string} title @param {(Node | string)[]} content @param {string} [kind]
 * @returns {HTMLDialogElement}
 */
export function dialog(title, content, kind = "") {
  const id = `dialog-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const close = h("button.icon-button.dialog-close", { type: "button", "aria-label": "Close", onclick: () => node.close() }, "\u00d7");
  const node = /** @type {HTMLDialogElement} */ (
    h(`dialog.dialog${kind ? `.${kind}` : ""}`, { "aria-labelledby": id }, h("header.dialog-head", null, h("h2", { id, tabindex: -1 }, title), close), ...content)
  );
  node.addEventListener("close", () => node.remove());
  node.addEventListener("click", (event) => event.target === node && node.close());
  document.body.append(node);
  node.showModal();
  return node;
}

/** @returns {boolean} whether a dialog is open: the page's keys rest then */
export const dialogOpen = () => document.querySelector("dialog[open]") !== null;

const REASONS = [
  { value: "unclear", label: "The task is unclear" },
  { value: "cannot_judge", label: "I cannot judge this (facts, language, skill)" },
  { value: "offensive", label: "I would rather not read this" },
  { value: "technical", label: "Something is broken" },
  { value: "other", label: "Something else" },
];

/**
 * Ask why a task is skipped; digits choose.
 * @param {(reason: string, comment: string) => void} done
 */
export function askSkip(done) {
  const choice = scale({
    legend: "Why do you skip it?",
    kind: "words",
    options: REASONS.map((reason, index) => ({ ...reason, mark: `${index + 1}  ${reason.label}` })),
    onchange: () => (send.disabled = false),
  });
  choice.element.classList.add("stacked");
  const comment = /** @type {HTMLTextAreaElement} */ (h("textarea", { id: "skip-comment", rows: 2, maxlength: 2000 }));
  const send = /** @type {HTMLButtonElement} */ (h("button.button.primary", { type: "submit", value: "skip", disabled: true }, "Skip this task"));
  const form = h(
    "form",
    { method: "dialog" },
    h("p.muted", null, "Skipping is fine: a skipped task goes to somebody else. The reason helps to repair it."),
    choice.element,
    h("label", { for: "skip-comment" }, "Anything to add? (optional)"),
    comment,
    h("div.dialog-acts", null, h("button.button", { type: "button", onclick: () => node.close() }, "Keep it"), send),
  );
  const node = dialog("Skip this task", [form]);
  // After the dialog has closed and given the focus back: the next task takes it then.
  node.addEventListener("close", () => node.returnValue === "skip" && done(choice.value ?? "other", comment.value.trim()));
  node.addEventListener("keydown", (event) => {
    if (event.target === comment || event.ctrlKey || event.metaKey || event.altKey) return;
    const picked = keysOn() ? REASONS[Number(event.key) - 1] : undefined;
    if (picked) {
      choice.choose(picked.value);
      choice.focus();
    }
    if (event.key === "Enter" && event.target instanceof HTMLInputElement && !send.disabled) {
      event.preventDefault();
      send.click();
    }
  });
  choice.focus();
}

/**
 * Rewrite one of the replies beside another answer.
 * @param {{texts: string[], position: number, text: string | null, onsave: (text: string | null, position: number) => void}} spec
 *   text: the version there is already; onsave gets null when nothing was changed
 */
export function askEdit({ texts, position, text, onsave }) {
  let base = position;
  const editor = new Editor("Your version", () => {});
  editor.start(texts[base], text ?? texts[base]);
  const from = scale({
    legend: "Start from",
    kind: "words",
    hideLegend: false,
    options: texts.map((_, index) => ({ value: String(index), mark: `Reply ${letter(index)}`, label: `reply ${letter(index)}` })),
    onchange: (value) => {
      base = Number(value);
      editor.start(texts[base]);
    },
  });
  from.choose(String(base), true);
  const save = () => {
    onsave(editor.changed && editor.field.value.trim() ? editor.text : null, base);
    node.close();
  };
  const node = dialog(
    "Rewrite this reply",
    [
      h("p.muted", null, "Make it the reply you would have wanted. It is kept as a demonstration, and as better than the original."),
      ...(texts.length > 1 ? [from.element] : []),
      editor.element,
      h(
        "div.dialog-acts",
        null,
        h("button.button", { type: "button", onclick: () => editor.start(texts[base]) }, "Start over"),
        h("button.button.primary", { type: "button", onclick: save }, "Keep this version", h("kbd", { "aria-hidden": true }, "Ctrl Enter")),
      ),
    ],
    "wide",
  );
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      save();
    }
  });
  editor.field.focus();
}

const KEYS = [
  ["1 - 7", "How much better; in a ranking the place of the marked reply; in a rating its mark"],
  ["\u2190 \u2192", "Along a scale; in rankings and ratings to the next reply"],
  ["T", "Tie: equally good"],
  ["B", "Both bad"],
  ["Y  N", "Task done: yes, no"],
  ["E", "Edit a reply"],
  ["F", "Rate or flag a reply"],
  ["R", "Write a reason"],
  ["0", "Ranking: take the marked reply out"],
  ["Enter", "Send; in a text field Ctrl Enter"],
  ["U", "Undo the last answer"],
  ["S", "Skip, with a reason"],
  ["G", "Guidelines"],
  ["?", "This help"],
];

/** Keys, and the switches for keys and theme. */
export function showHelp() {
  const rows = KEYS.map(([key, meaning]) => h("div.key-row", null, h("dt", null, key.split("  ").map((one) => h("kbd", null, one))), h("dd", null, meaning)));
  const keys = /** @type {HTMLInputElement} */ (h("input", { type: "checkbox", role: "switch", checked: keysOn() }));
  keys.addEventListener("change", () => {
    setPref("keys", keys.checked ? "on" : "off");
    document.documentElement.dataset.keys = keys.checked ? "on" : "off";
  });
  const theme = scale({
    legend: "Theme",
    hideLegend: false,
    kind: "words",
    options: ["system", "light", "dark"].map((value) => ({ value, mark: value[0].toUpperCase() + value.slice(1), label: value })),
    onchange: (value) => setTheme(/** @type {any} */ (value)),
  });
  theme.choose(pref("theme", "system"), true);
  dialog("Keys and settings", [
    h("label.switch", null, keys, h("span", null, "Single-key shortcuts ", h("small", null, "Off: only Tab, arrows, Enter on a button. They never act in text fields."))),
    theme.element,
    h("dl.keys", null, rows),
  ], "middle");
}
