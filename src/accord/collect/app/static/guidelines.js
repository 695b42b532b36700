// @ts-check
/** The guidelines on a page of their own. */
import { ApiError, get } from "./api.js";
import { byId, h } from "./dom.js";
import { markdown } from "./markdown.js";
import { setPref } from "./prefs.js";
import { reachScrollers } from "./reply.js";

async function main() {
  const body = byId("guidelines");
  try {
    const { version, markdown: text } = await get("/api/v1/guidelines");
    byId("guidelines-version").textContent = version ? `Version ${version}` : "";
    body.replaceChildren(text ? markdown(text, { links: true }) : h("p.muted", null, "No guidelines have been written yet."));
    if (version) setPref("guideline", String(version));
    reachScrollers(body);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    body.replaceChildren(h("p.notice.bad", null, error.message));
  }
}

main();
