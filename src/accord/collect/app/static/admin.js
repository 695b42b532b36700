// @ts-check
/** The administration: one page, its part named by the template, its data from the admin API. */
import { ApiError, get, setCsrf } from "./api.js";
import { announce, byId, h } from "./dom.js";
import { reachScrollers } from "./reply.js";

/** @typedef {{root: HTMLElement, reload: () => Promise<void>, attempt: (act: () => Promise<any>, done?: string) => Promise<any>}} Room */

const PARTS = /** @type {Record<string, () => Promise<{show: (room: Room) => Promise<void>}>>} */ ({
  progress: () => import("./admin_numbers.js").then((part) => ({ show: part.showProgress })),
  agreement: () => import("./admin_numbers.js").then((part) => ({ show: part.showAgreement })),
  annotators: () => import("./admin_numbers.js").then((part) => ({ show: part.showAnnotators })),
  gold: () => import("./admin_gold.js"),
  adjudication: () => import("./admin_adjudication.js"),
  audit: () => import("./admin_audit.js"),
  people: () => import("./admin_people.js"),
  guidelines: () => import("./admin_guidelines.js"),
  data: () => import("./admin_data.js"),
  settings: () => import("./admin_settings.js"),
});

/** @param {string} text  said and shown for a while */
function toast(text) {
  document.querySelector(".toast")?.remove();
  const note = h("p.toast", null, text);
  document.body.append(note);
  announce(text);
  setTimeout(() => note.remove(), 5000);
}

/** @param {HTMLElement} root @param {ApiError} error @param {() => void} again */
function failed(root, error, again) {
  const signIn = error.status === 401;
  const way = signIn
    ? h("a.button", { href: `/login?next=${encodeURIComponent(location.pathname)}` }, "Sign in again")
    : h("button.button", { type: "button", onclick: again }, "Try again");
  root.replaceChildren(h("div.notice.bad", { role: "alert" }, error.message), h("p", null, way));
}

async function main() {
  const root = /** @type {HTMLElement} */ (byId("section"));
  const name = byId("main").dataset.section;
  const part = await PARTS[name]();
  /** @type {Room} */
  const room = {
    root,
    async reload() {
      root.setAttribute("aria-busy", "true");
      try {
        await part.show(room);
        requestAnimationFrame(() => reachScrollers(root));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        failed(root, error, room.reload);
      } finally {
        root.setAttribute("aria-busy", "false");
      }
    },
    async attempt(act, done = "") {
      try {
        const result = await act();
        if (done) toast(done);
        return result ?? true;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        toast(error.message);
        return null;
      }
    },
  };
  try {
    setCsrf((await get("/api/v1/me")).csrf);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return failed(root, error, () => location.reload());
  }
  addEventListener("resize", () => reachScrollers(root));
  return room.reload();
}

main();
