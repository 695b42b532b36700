// @ts-check
/** Progress, agreement and the people who label, in numbers. */
import { get, post } from "./api.js";
import { duration, h } from "./dom.js";
import { dayBars, figures, interval, percent, pill, table, when } from "./table.js";

/** @typedef {import("./admin.js").Room} Room */

const block = (/** @type {string} */ title, /** @type {(Node | string | null | false)[]} */ ...parts) => h("section.block", null, h("h2", null, title), ...parts);

/** @param {number} value @returns {string} 12,345 as this reader writes it */
const count = (value) => value.toLocaleString();

/** @param {Room} room */
export async function showProgress({ root }) {
  const { tasks, annotations, by_kind: kinds, by_day: days, skips, open_leases: leases, active_annotators: people, eta_seconds: eta } = await get("/api/v1/admin/progress");
  const skipped = Object.entries(skips).map(([reason, count]) => ({ reason: reason.replaceAll("_", " "), count }));
  root.replaceChildren(
    figures([
      ["Answers", count(annotations.total)],
      ["Answers today", annotations.today],
      ["Tasks open", count(tasks.open)],
      ["Tasks done", [count(tasks.done), h("small", null, ` of ${count(tasks.total)}`)]],
      ["To adjudicate", h("a", { href: "/admin/adjudication" }, tasks.adjudicate)],
      ["Time left", eta === null ? "-" : duration(eta)],
    ]),
    h("p.muted", null, `${people} labelling now, ${leases} tasks held. Time left is at the pace of the last days.`),
    block("Answers a day", days.length ? dayBars(days) : h("p.muted", null, "No answers yet.")),
    h(
      "div.halves",
      null,
      block(
        "By kind of task",
        table(
          "Tasks by kind",
          [
            { head: "Kind", cell: (row) => row.kind, main: true },
            { head: "Done", cell: (row) => row.done, number: true },
            { head: "All", cell: (row) => row.total, number: true },
            { head: "Share", cell: (row) => percent(row.total ? row.done / row.total : null), number: true },
          ],
          kinds,
          { empty: "No tasks yet: import some." },
        ),
      ),
      block(
        "Skipped",
        table("Skips by reason", [{ head: "Reason", cell: (row) => row.reason, main: true }, { head: "Times", cell: (row) => row.count, number: true }], skipped, { empty: "Nothing was skipped." }),
      ),
    ),
  );
}

/** @param {Room} room */
export async function showAgreement({ root }) {
  const { rows, note, slice } = await get("/api/v1/admin/agreement");
  const figure = (/** @type {any} */ row) => {
    if (row.value === null) return h("span.muted", null, row.reason ?? "not defined");
    const words = `${row.label}: ${row.value.toFixed(2)}`;
    return interval(row.value, row.low, row.high, row.measure.includes("raw") ? [0, 1] : [-0.2, 1], words);
  };
  root.replaceChildren(
    h("p.lead", null, `Counted on the ${slice} slice only, where tasks go to several people whatever anyone thinks of them, and only on tasks with at least two answers. Intervals are 95 % by resampling prompts.`),
    table(
      "Agreement",
      [
        { head: "Measure", cell: (row) => [row.label, row.swap_symmetrised ? h("span.muted.small", null, " symmetrised") : null], main: true },
        { head: "Value", cell: (row) => (row.value === null ? "-" : row.value.toFixed(2)), number: true },
        { head: "95 %", cell: (row) => (row.low === null || row.high === null ? "-" : `${row.low.toFixed(2)} to ${row.high.toFixed(2)}`), number: true },
        { head: "Interval", cell: figure },
        { head: "Prompts", cell: (row) => row.units, number: true },
      ],
      rows,
      { empty: "No two answers to the same task yet." },
    ),
    note ? h("p.notice", null, note) : "",
    h(
      "div.block",
      null,
      h("h2", null, "How to read it"),
      h("p.lead", null, "For preferences, raw agreement of 60 to 77 % and an alpha of 0.2 to 0.5 are usual: people differ in what they want, not only in care. Symmetrised means that each pair counts in both directions, so the value does not depend on which reply is called the first."),
    ),
  );
}

const STATES = /** @type {Record<string, string>} */ ({ qualified: "good", blocked: "bad", new: "" });

/** @param {Room} room */
export async function showAnnotators({ root, reload, attempt }) {
  const [{ annotators }, { quiz_pass }] = await Promise.all([get("/api/v1/admin/annotators"), get("/api/v1/admin/settings")]);
  const gold = (/** @type {any} */ row) => {
    if (!row.gold_total) return h("span.muted", null, "none yet");
    const share = row.gold_right / row.gold_total;
    const words = `${row.handle}: ${row.gold_right} of ${row.gold_total} right`;
    return [h("span", null, `${row.gold_right} of ${row.gold_total}`), interval(share, row.gold_low, row.gold_high, [0, 1], words)];
  };
  const change = (/** @type {any} */ row) => {
    // Whom the hidden tests have stopped, or who has not passed the quiz that comes first.
    const out = row.state === "blocked" || (row.state === "new" && quiz_pass !== null);
    const button = (/** @type {boolean} */ qualified) => {
      const act = () => attempt(() => post(`/api/v1/admin/users/${row.id}/qualify`, { qualified }), qualified ? `${row.handle} gets tasks` : `${row.handle} gets no more tasks`).then((done) => done && reload());
      return h("button.button.small", { type: "button", onclick: act, "aria-label": `${qualified ? "Let in" : "Stop"} ${row.handle}` }, qualified ? "Let in" : "Stop");
    };
    return row.role === "annotator" && button(out);
  };
  root.replaceChildren(
    h("p.lead", null, "Hidden test items are answered like any other task. The interval is for the share right; somebody is stopped by a sequential test, not by a single mistake."),
    table(
      "Annotators",
      [
        { head: "Name", cell: (row) => [row.handle, row.groups.length ? h("div.muted.small", null, row.groups.join(", ")) : null], main: true },
        { head: "State", cell: (row) => (row.disabled ? pill("bad", "disabled") : pill(STATES[row.state] ?? "", row.state)) },
        { head: "Test items right", cell: gold },
        { head: "Answers", cell: (row) => row.done, number: true },
        { head: "Today", cell: (row) => row.today, number: true },
        { head: "Skipped", cell: (row) => row.skipped, number: true },
        { head: "Median time", cell: (row) => duration(row.median_seconds), number: true },
        { head: "Remarks", cell: (row) => row.flags.map((/** @type {string} */ flag) => pill("caution", flag.replaceAll("_", " "))) },
        { head: "Last seen", cell: (row) => h("span.nowrap", null, when(row.last_seen)) },
        { head: "", cell: change },
      ],
      annotators,
      { empty: "Nobody labels yet: invite people.", off: (row) => row.disabled },
    ),
  );
}
