// @ts-check
/** Tasks people disagree about: what each said, and the same form to decide. The answers themselves stay as they are. */
import { get, post } from "./api.js";
import { duration, h, letter, plural, uid } from "./dom.js";
import { reachScrollers } from "./reply.js";
import { inWords } from "./shape.js";
import { when } from "./table.js";
import { TaskPage } from "./task.js";

/** @param {any} label @returns {HTMLElement} one person's answer, as it was given */
function said({ annotator, verdict, seconds, created_at: at, guideline }) {
  const flags = Object.entries(verdict.flags ?? {}).map(([position, names]) => `${letter(Number(position))}: ${/** @type {string[]} */ (names).join(", ").replaceAll("_", " ")}`);
  const rated = verdict.kind !== "rate" && verdict.ratings ? verdict.ratings.map((/** @type {number | null} */ r, /** @type {number} */ i) => `${letter(i)} ${r ?? "-"}`).join(", ") : "";
  return h(
    "li",
    null,
    h("b", null, inWords(verdict, letter)),
    h("span.muted", null, annotator),
    h("span.muted", null, duration(seconds)),
    h("span.muted", null, when(at)),
    guideline ? h("span.muted", null, `guidelines ${guideline}`) : null,
    verdict.rationale ? h("p", null, verdict.rationale) : null,
    flags.length ? h("p", null, `Flags: ${flags.join("; ")}`) : null,
    rated ? h("p", null, `Ratings: ${rated}`) : null,
    verdict.edit && verdict.kind === "edit" ? h("p", null, verdict.edit) : null,
  );
}

/** @param {any} skip @returns {HTMLElement} why one person gave no answer */
const skipped = ({ annotator, reason, comment }) => h("li", null, h("b", null, `Skipped: ${reason.replaceAll("_", " ")}`), h("span.muted", null, annotator), comment ? h("p", null, comment) : null);

/** @param {import("./admin.js").Room} room */
export async function show({ root, attempt, reload }) {
  const { items, remaining } = await get("/api/v1/admin/adjudication");
  if (!items.length) {
    root.replaceChildren(h("p.lead", null, "Nobody needs a decision right now. Tasks come here when their answers disagree too much, or when several people skipped them."));
    return;
  }
  const [item] = items;
  const id = uid("why");
  const page = new TaskPage({ ...item, require: { rationale: false, seen: false, ratings: false }, assignment: "", guideline: null }, () => refresh());
  page.heading.remove();
  const why = /** @type {HTMLTextAreaElement} */ (h("textarea", { id, rows: 2, maxlength: 4000 }));
  const gold = /** @type {HTMLInputElement} */ (h("input", { type: "checkbox" }));
  const problem = h("p.dock-why");
  const send = h("button.button.primary", { type: "button" }, "Decide");
  const refresh = () => {
    problem.textContent = page.problem() ?? "";
    send.setAttribute("aria-disabled", String(page.problem() !== null));
  };
  send.addEventListener("click", async () => {
    if (page.problem()) return;
    const verdict = page.read();
    const done = await attempt(async () => {
      await post(`/api/v1/admin/adjudication/${item.task}`, { verdict, reason: why.value.trim(), gold: gold.checked });
      return true;
    }, "Decided");
    if (!done) return;
    await reload();
    scrollTo(0, 0);
    /** @type {HTMLElement | null} */ (document.querySelector("#main h1"))?.focus();
  });
  const waiting = Math.max(remaining ?? 0, items.length);
  root.replaceChildren(
    h("p.lead", null, `${plural(waiting, "task")} to decide. Here because: ${item.reason.replaceAll("_", " ")}.`),
    h("section.panel", null, h("h2", null, `What ${plural(item.labels.length + item.skips.length, "person", "people")} said`), h("ul.judge-labels", null, item.labels.map(said), item.skips.map(skipped))),
    page.element,
    h(
      "section.judge-dock",
      { "aria-label": "Your decision" },
      page.dock,
      h("div.row-form", null, h("div.field", null, h("label", { for: id }, "Why"), why), h("label.check", null, gold, h("span", null, "Use as a hidden test item")), send),
      problem,
    ),
  );
  page.mounted();
  reachScrollers(root);
  refresh();
}
