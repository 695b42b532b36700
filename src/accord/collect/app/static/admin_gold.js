// @ts-check
/** Hidden test items: what they are, how often they are answered right, and making new ones. */
import { get, post } from "./api.js";
import { h, letter, plural } from "./dom.js";
import { inWords } from "./shape.js";
import { percent, table } from "./table.js";

/** @param {any} gold @returns {string} also for partial verdicts */
const answer = (gold) => inWords({ position: null, ...gold }, letter);

/** @param {import("./admin.js").Room} room */
export async function show({ root, reload, attempt }) {
  const { items } = await get("/api/v1/admin/gold");
  const remove = (/** @type {any} */ row) => attempt(() => post("/api/v1/admin/gold", { task: row.task, gold: null }), "It is an ordinary task now").then((done) => done && reload());
  root.replaceChildren(
    h("p.lead", null, "Test items look like any other task and come at random moments. Letters are the stored order of the replies; each person sees them in an order of their own. An item that good people get wrong is a bad item: look at those with a low share first."),
    h("p", null, plural(items.length, "test item"), ". Settle a task in ", h("a", { href: "/admin/adjudication" }, "adjudication"), " to make it one, or import tasks with a known answer."),
    table(
      "Test items",
      [
        { head: "Prompt", cell: (row) => row.prompt, free: true, main: true },
        { head: "Kind", cell: (row) => row.kind },
        { head: "Right answer", cell: (row) => answer(row.gold) },
        { head: "Answered", cell: (row) => row.answered, number: true },
        { head: "Right", cell: (row) => percent(row.answered ? row.right / row.answered : null), number: true },
        { head: "", cell: (row) => h("button.button.small", { type: "button", onclick: () => remove(row), "aria-label": `Retire the test item: ${row.prompt.slice(0, 40)}` }, "Retire") },
      ],
      [...items].sort((a, b) => (a.answered ? a.right / a.answered : 2) - (b.answered ? b.right / b.answered : 2)),
      { empty: "No test items yet. Without them nothing is known about how careful anyone is." },
    ),
  );
}
