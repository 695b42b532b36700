// @ts-check
/** The strip on top: how far, how long still, how well on known items, and whether everything is saved. */
import { byId, duration, h, plural } from "./dom.js";
import { inWords } from "./shape.js";

/** @param {any} progress  done, today, remaining, eta_seconds, gold_right, gold_total */
export function showProgress(progress) {
  if (!progress) return;
  const { done, today, remaining, eta_seconds: eta, gold_right: right, gold_total: total } = progress;
  const bar = /** @type {HTMLProgressElement} */ (byId("progress-bar"));
  bar.max = Math.max(1, done + remaining);
  bar.value = done;
  byId("progress-text").replaceChildren(
    h("span", null, h("b", null, String(done)), " done"),
    h("span.wide", null, `${today} today`),
    h("span", null, h("b", null, String(remaining)), " left"),
    ...(eta == null ? [] : [h("span.wide", null, `about ${duration(eta)}`)]),
    ...(total ? [h("span", { title: "Your answers to items whose answer is known" }, `${right}/${total}`, h("span.wide", null, " known items right"))] : []),
  );
}

/** @param {import("./outbox.js").State} state @returns {[string, string]} kind and words */
export function savedWords({ waiting, sending, online, signedOut, durable }) {
  if (signedOut) return ["bad", `Signed out: ${plural(waiting, "answer")} kept here`];
  if (waiting && !durable) return ["bad", `Keep this page open: ${plural(waiting, "answer")} not saved yet`];
  if (waiting && !online) return ["caution", `Offline: ${plural(waiting, "answer")} kept on this device`];
  if (waiting || sending) return ["busy", "Saving"];
  if (!online) return ["caution", "Offline"];
  return ["good", "All saved"];
}

/**
 * @param {import("./outbox.js").State} state
 * @param {{retry: () => void, reopen: (item: any) => void, discard: (item: any) => void}} act
 */
export function showSaved(state, act) {
  const [kind, words] = savedWords(state);
  const pill = byId("saved");
  pill.className = `saved ${kind}`;
  if (pill.textContent !== words) pill.textContent = words;
  const tray = byId("tray");
  const parts = [];
  if (state.signedOut) {
    parts.push(h("p", null, "Your session has ended. ", h("a", { href: `/login?next=${encodeURIComponent("/label")}` }, "Sign in again"), " and they will be sent."));
  } else if (state.problem && state.waiting) {
    parts.push(h("p", null, `${state.problem}. Go on working: answers are sent when the connection is back. `, h("button.button.small", { type: "button", onclick: act.retry }, "Try now")));
  }
  for (const item of state.refused) {
    const what = item.json.verdict ? inWords(item.json.verdict, (position) => String.fromCharCode(65 + position)) : "Skip";
    parts.push(
      h(
        "div.refused",
        null,
        h("p", null, h("b", null, "Not accepted: "), `${what}. ${item.refused}`),
        h("button.button.small", { type: "button", onclick: () => act.reopen(item) }, "Open it again"),
        h("button.button.small", { type: "button", onclick: () => act.discard(item) }, "Discard"),
      ),
    );
  }
  tray.hidden = parts.length === 0;
  tray.replaceChildren(...parts);
}
