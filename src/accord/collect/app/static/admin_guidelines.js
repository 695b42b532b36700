// @ts-check
/** The written rules: an editor with the result beside it; every version stays, and each answer names its own. */
import { get, post } from "./api.js";
import { h } from "./dom.js";
import { markdown } from "./markdown.js";
import { table, when } from "./table.js";

/** @param {import("./admin.js").Room} room */
export async function show({ root, attempt, reload }) {
  const { versions } = await get("/api/v1/admin/guidelines");
  const current = versions[0];
  const source = /** @type {HTMLTextAreaElement} */ (h("textarea.edit-field", { id: "guide-source", rows: 18, maxlength: 500_000, spellcheck: "true" }));
  const preview = h("div.edit-preview");
  const send = h("button.button.primary", { type: "button" }, `Publish as version ${(current?.version ?? 0) + 1}`);
  const draw = () => {
    preview.replaceChildren(markdown(source.value, { links: true }));
    send.setAttribute("aria-disabled", String(!source.value.trim() || source.value === current?.markdown));
  };
  source.value = current?.markdown ?? "";
  source.addEventListener("input", draw);
  send.addEventListener("click", async () => {
    if (send.getAttribute("aria-disabled") === "true") return;
    if (await attempt(() => post("/api/v1/admin/guidelines", { markdown: source.value }), "Published. Everybody sees it with their next task.")) await reload();
  });
  const load = (/** @type {any} */ row) => {
    source.value = row.markdown;
    draw();
    source.focus();
  };
  root.replaceChildren(
    h("p.lead", null, "What people read beside each task. Markdown: headings, lists, emphasis, quotes, code, tables, links."),
    h(
      "section.panel",
      null,
      h(
        "div.editor",
        null,
        h("div.edit-side", null, h("label", { for: "guide-source" }, "Text"), source),
        h("div.edit-side", null, h("p.edit-label", null, "As it will be read"), preview),
      ),
      h("div", null, send),
    ),
    h(
      "section.block",
      null,
      h("h2", null, "Versions"),
      table(
        "Versions of the guidelines",
        [
          { head: "Version", cell: (row) => row.version, main: true },
          { head: "Published", cell: (row) => h("span.nowrap", null, when(row.created_at)) },
          { head: "By", cell: (row) => row.author ?? "-" },
          { head: "Begins", cell: (row) => row.markdown.slice(0, 90), free: true },
          { head: "", cell: (row) => h("button.button.small", { type: "button", onclick: () => load(row), "aria-label": `Edit from here: version ${row.version}` }, "Edit from here") },
        ],
        versions,
        { empty: "No version yet." },
      ),
    ),
  );
  draw();
}
