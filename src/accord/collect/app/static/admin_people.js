// @ts-check
/** Accounts, invitations and keys. */
import { get, post } from "./api.js";
import { h, uid } from "./dom.js";
import { pill, table, when } from "./table.js";

const ROLES = ["annotator", "adjudicator", "admin", "service"];
const SCOPES = ["annotate", "read", "import", "export", "admin"];

/** @param {string} label @param {HTMLElement} control @param {string} [hint] */
function field(label, control, hint) {
  const id = uid("field");
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div.field", null, h("label", { for: id }, label), control, hint ? h("p.hint", { id: `${id}-hint` }, hint) : null);
}

const select = (/** @type {string[]} */ options) => /** @type {HTMLSelectElement} */ (h("select", null, options.map((one) => h("option", { value: one }, one))));
const input = (/** @type {Record<string, any>} */ attributes = {}) => /** @type {HTMLInputElement} */ (h("input", attributes));
const past = (/** @type {string} */ time) => Date.parse(time) <= Date.now();
const list = (/** @type {string} */ text) => text.split(",").map((part) => part.trim()).filter(Boolean);

/** @param {string} title @param {(Node | null)[]} fields @param {string} button @param {() => Promise<void>} act */
function panel(title, fields, button, act) {
  const form = h("form.panel", null, h("h2", null, title), ...fields, h("div", null, h("button.button.primary", { type: "submit" }, button)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
  return form;
}

/** @param {import("./admin.js").Room} room */
function inviting({ attempt }) {
  const role = select(ROLES.slice(0, 3));
  const groups = input();
  const out = h("div", { "aria-live": "polite" });
  return panel("Invite somebody", [field("Role", role), field("Groups", groups, "Separated by commas. Groups are compared with each other in the reports."), out], "Make a link", async () => {
    const made = await attempt(() => post("/api/v1/admin/invitations", { role: role.value, groups: list(groups.value), expires_hours: 168 }));
    if (made) out.replaceChildren(h("p", null, "Good for one account, for 7 days:"), h("p.secret", null, made.url));
  });
}

/** @param {import("./admin.js").Room} room @param {any[]} users */
function keying({ attempt }, users) {
  const owner = select(users.filter((user) => !user.disabled).map((user) => user.handle));
  const name = input({ maxlength: 100, value: "key" });
  const days = input({ type: "number", min: 1, max: 3660, value: 365 });
  const boxes = SCOPES.map((scope) => input({ type: "checkbox", value: scope, checked: scope === "read" }));
  const out = h("div", { "aria-live": "polite" });
  const scopes = h("div.chips", { role: "group", "aria-label": "What the key may do" }, boxes.map((box) => h("label.check", null, box, h("span", null, box.value))));
  return panel("Make an API key", [field("For", owner), field("Name", name), field("Days", days), scopes, out], "Make a key", async () => {
    const json = { handle: owner.value, name: name.value, scopes: boxes.filter((box) => box.checked).map((box) => box.value), expires_days: Number(days.value) || null };
    const made = await attempt(() => post("/api/v1/admin/keys", json));
    if (made) out.replaceChildren(h("p", null, "Shown once, now:"), h("p.secret", null, made.secret));
  });
}

/** @param {import("./admin.js").Room} room */
function adding({ attempt, reload }) {
  const handle = input({ required: true, maxlength: 100, autocomplete: "off" });
  const role = select(ROLES);
  const password = input({ type: "password", minlength: 10, autocomplete: "new-password" });
  return panel("Add an account", [field("Name", handle), field("Role", role), field("Password", password, "Empty for a service, which uses keys.")], "Add", async () => {
    const json = { handle: handle.value.trim(), role: role.value, password: password.value || null, groups: [] };
    if (await attempt(() => post("/api/v1/admin/users", json), `${json.handle} was added`)) await reload();
  });
}

/** @param {import("./admin.js").Room} room */
export async function show(room) {
  const { root, attempt, reload } = room;
  const { users, invitations, keys } = await get("/api/v1/admin/users");
  const disable = (/** @type {any} */ row) =>
    attempt(() => post(`/api/v1/admin/users/${row.id}/disable`, { disabled: !row.disabled }), row.disabled ? `${row.handle} may sign in again` : `${row.handle} is kept out`).then((done) => done && reload());
  const revoke = (/** @type {any} */ row) => attempt(() => post(`/api/v1/admin/keys/${row.id}/revoke`), "The key is dead").then((done) => done && reload());
  const withdraw = (/** @type {any} */ row) =>
    attempt(() => post(`/api/v1/admin/invitations/${row.id}/revoke`), "The link does not work any more").then((done) => done && reload());
  root.replaceChildren(
    h("div.thirds", null, inviting(room), keying(room, users), adding(room)),
    h(
      "section.block",
      null,
      h("h2", null, "Accounts"),
      table(
        "Accounts",
        [
          { head: "Name", cell: (row) => row.handle, main: true },
          { head: "Role", cell: (row) => row.role },
          { head: "Groups", cell: (row) => row.groups.map((/** @type {string} */ group) => pill("", group)) },
          { head: "Since", cell: (row) => when(row.created_at) },
          { head: "Last seen", cell: (row) => when(row.last_seen) },
          { head: "State", cell: (row) => (row.disabled ? pill("bad", "disabled") : pill("good", "active")) },
          { head: "", cell: (row) => h("button.button.small", { type: "button", onclick: () => disable(row), "aria-label": `${row.disabled ? "Enable" : "Disable"} ${row.handle}` }, row.disabled ? "Enable" : "Disable") },
        ],
        users,
        { off: (row) => row.disabled },
      ),
    ),
    h(
      "section.block",
      null,
      h("h2", null, "Keys"),
      table(
        "API keys",
        [
          { head: "Name", cell: (row) => row.name || "no name", main: true },
          { head: "Begins with", cell: (row) => h("span.hash", null, row.prefix) },
          { head: "Of", cell: (row) => row.handle },
          { head: "May", cell: (row) => row.scopes.map((/** @type {string} */ scope) => pill("", scope)) },
          { head: "Until", cell: (row) => (row.expires_at ? when(row.expires_at) : "no end") },
          { head: "", cell: (row) => (row.revoked ? pill("bad", "revoked") : h("button.button.small", { type: "button", onclick: () => revoke(row), "aria-label": `Revoke ${row.name || "the key"} of ${row.handle}` }, "Revoke")) },
        ],
        keys,
        { empty: "No keys.", off: (row) => row.revoked },
      ),
    ),
    h(
      "section.block",
      null,
      h("h2", null, "Invitations"),
      table(
        "Invitations",
        [
          { head: "Role", cell: (row) => row.role, main: true },
          { head: "Groups", cell: (row) => row.groups.join(", ") || "-" },
          { head: "Until", cell: (row) => when(row.expires_at) },
          { head: "Used by", cell: (row) => row.used_by ?? (past(row.expires_at) ? "nobody, ended" : "nobody yet") },
          { head: "", cell: (row) => (row.used_by || past(row.expires_at) ? "" : h("button.button.small", { type: "button", onclick: () => withdraw(row), "aria-label": `Revoke the invitation for ${row.role} until ${row.expires_at}` }, "Revoke")) },
        ],
        invitations,
        { empty: "No invitations.", off: (row) => Boolean(row.used_by) || past(row.expires_at) },
      ),
    ),
  );
}
