// @ts-check
/** The audit trail: every change with who and when, chained by hashes so that a removed or altered line shows. */
import { get } from "./api.js";
import { h } from "./dom.js";
import { table, when } from "./table.js";

/** @param {any} value @returns {string} */
function shorten(value) {
  if (value === null || value === undefined) return "";
  const text = JSON.stringify(value);
  return text === "{}" ? "" : text.length > 300 ? `${text.slice(0, 300)} ...` : text;
}

/** @param {import("./admin.js").Room} room */
export async function show({ root, attempt, reload }, filter = { verb: "", actor: "" }, before = /** @type {number | null} */ (null)) {
  const { events, next } = await get("/api/v1/admin/events", { limit: 50, before, ...filter });
  const verdict = h("span.muted");
  const verify = async () => {
    const found = await attempt(() => get("/api/v1/admin/verify"));
    if (!found) return;
    verdict.className = found.intact ? "pill good" : "pill bad";
    verdict.textContent = found.intact ? `Whole: ${found.events} entries` : `Broken at entry ${found.first_bad}`;
  };
  const verb = /** @type {HTMLInputElement} */ (h("input", { id: "audit-verb", value: filter.verb.replaceAll("_", " ") }));
  const actor = /** @type {HTMLInputElement} */ (h("input", { id: "audit-actor", value: filter.actor }));
  const again = (/** @type {number | null} */ from) => attempt(() => show({ root, attempt, reload }, { verb: verb.value.trim().replaceAll(" ", "_"), actor: actor.value.trim() }, from));
  const form = h(
    "form.row-form",
    null,
    h("div.field", null, h("label", { for: "audit-verb" }, "What happened"), verb),
    h("div.field", null, h("label", { for: "audit-actor" }, "Who"), actor),
    h("button.button", { type: "submit" }, "Filter"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    again(null);
  });
  root.replaceChildren(
    h("p.lead", null, "Nothing is ever changed in place: answers are superseded, settings replaced, and each step is written here."),
    h("div.pager", null, h("button.button", { type: "button", onclick: verify }, "Check the chain"), verdict),
    form,
    table(
      "Audit trail",
      [
        { head: "When", cell: (row) => h("span.nowrap", null, when(row.ts)), main: true },
        { head: "Who", cell: (row) => row.actor || "system" },
        { head: "What", cell: (row) => row.verb.replaceAll("_", " ") },
        { head: "To what", cell: (row) => [row.object_type, h("div.hash.nowrap", { title: row.object_id }, row.object_id.slice(-12))] },
        { head: "Before", cell: (row) => h("span.hash", null, shorten(row.before)), free: true },
        { head: "After", cell: (row) => h("span.hash", null, shorten(row.after)), free: true },
        { head: "Hash", cell: (row) => h("span.hash.nowrap", { title: row.hash }, row.hash.slice(0, 8)) },
      ],
      events,
      { empty: "No entries." },
    ),
    h(
      "div.pager",
      null,
      before !== null && h("button.button", { type: "button", onclick: () => again(null) }, "Newest"),
      next !== null && next !== undefined && h("button.button", { type: "button", onclick: () => again(next) }, "Older"),
    ),
  );
}
