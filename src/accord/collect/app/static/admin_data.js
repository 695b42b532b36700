// @ts-check
/** Tasks in, labels out. */
import { call, project } from "./api.js";
import { h, plural } from "./dom.js";
import { table } from "./table.js";

const KINDS = /** @type {[string, string][]} */ ([
  ["preferences", "Preferences"],
  ["demonstrations", "Demonstrations"],
  ["unpaired", "Unpaired labels"],
  ["annotations", "Raw annotations"],
]);
const ABOUT = /** @type {Record<string, string>} */ ({
  preferences: "Pairs and rankings, for reward models and DPO.",
  demonstrations: "Rewritten replies, for fine-tuning.",
  unpaired: "Single replies, good or bad, for KTO.",
  annotations: "Every answer as it was given, with the order shown and the time taken.",
});
const FORMATS = /** @type {[string, string][]} */ ([
  ["jsonl", "JSON lines"],
  ["parquet", "Parquet"],
  ["hf", "Hugging Face dataset"],
]);

const choose = (/** @type {string} */ id, /** @type {[string, string][]} */ options) =>
  /** @type {HTMLSelectElement} */ (h("select", { id }, options.map(([value, words]) => h("option", { value }, words))));
const field = (/** @type {string} */ label, /** @type {HTMLElement} */ control) => h("div.field", null, h("label", { for: control.id }, label), control);

/** @param {import("./admin.js").Room} room */
function importing({ attempt }) {
  const file = /** @type {HTMLInputElement} */ (h("input", { id: "import-file", type: "file", required: true }));
  const kind = choose("import-kind", [["pair", "Comparison of two"], ["rank", "Ranking"], ["rate", "Rating"], ["edit", "Rewriting"]]);
  const overlap = /** @type {HTMLInputElement} */ (h("input", { id: "import-overlap", type: "number", min: 1, max: 100, placeholder: "as set" }));
  const out = h("div.block", { "aria-live": "polite" });
  const form = h(
    "form.panel",
    null,
    h("h2", null, "Bring tasks in"),
    h("p.muted", null, "JSON lines, Parquet, CSV and the formats of other tools; the format is recognised. The same task twice is one task."),
    field("File", file),
    field("Kind of task", kind),
    field("Answers per task", overlap),
    h("div", null, h("button.button.primary", { type: "submit" }, "Import")),
    out,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [chosen] = file.files ?? [];
    if (!chosen) return;
    out.replaceChildren(h("p.muted", null, "Reading the file"));
    const query = new URLSearchParams({ project: project(), name: chosen.name, format: "auto", kind: kind.value });
    if (overlap.value) query.set("overlap", overlap.value);
    const done = await attempt(async () => (await call("POST", `/api/v1/admin/tasks/upload?${query}`, { blob: chosen, seconds: 600 })).body);
    if (!done) return out.replaceChildren();
    const parts = [h("p.notice.good", null, `${plural(done.added, "task")} added, ${done.repeated} were there already, ${done.refused.length} refused.`)];
    if (done.leaking) parts.push(h("p.notice.caution", null, `${plural(done.leaking, "reply", "replies")} may name the model that wrote them: look at them before people do.`));
    if (done.refused.length) parts.push(table("Refused lines", [{ head: "Line", cell: (row) => row.line, number: true }, { head: "Why", cell: (row) => row.why, free: true }], done.refused.slice(0, 100)));
    return out.replaceChildren(...parts);
  });
  return form;
}

function exporting() {
  const kind = choose("export-kind", KINDS);
  const format = choose("export-format", FORMATS);
  const link = /** @type {HTMLAnchorElement} */ (h("a.button.primary", { id: "export-link", download: "" }, "Download"));
  const about = h("p.hint", { "aria-live": "polite" });
  const aim = () => {
    about.textContent = ABOUT[kind.value];
    link.href = `/api/v1/export?${new URLSearchParams({ project: project(), kind: kind.value, format: format.value })}`;
  };
  kind.addEventListener("change", aim);
  format.addEventListener("change", aim);
  aim();
  return h(
    "section.panel",
    null,
    h("h2", null, "Take labels out"),
    h("p.muted", null, "People appear under their pseudonyms, never by name."),
    field("What", kind),
    about,
    field("Format", format),
    h("div", null, link),
  );
}

/** @param {import("./admin.js").Room} room */
export async function show(room) {
  room.root.replaceChildren(h("div.halves", null, importing(room), exporting()));
}
