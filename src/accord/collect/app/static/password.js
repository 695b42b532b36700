// @ts-check
/** Changing one's own password; the session goes on under a new token, all others end. */
import { ApiError, post, setCsrf } from "./api.js";
import { dialog } from "./dialogs.js";
import { h } from "./dom.js";

export function askPassword() {
  const field = (/** @type {string} */ id, /** @type {string} */ label, /** @type {Record<string, any>} */ more) => {
    const input = /** @type {HTMLInputElement} */ (h("input", { id, type: "password", required: true, ...more }));
    return { input, element: h("div.field", null, h("label", { for: id }, label), input) };
  };
  const old = field("password-old", "Old password", { autocomplete: "current-password" });
  const fresh = field("password-new", "New password, at least 10 characters", { autocomplete: "new-password", minlength: 10 });
  const said = h("p", { role: "alert" });
  const form = h(
    "form.fields",
    null,
    old.element,
    fresh.element,
    said,
    h("div.dialog-acts", null, h("button.button.primary", { type: "submit" }, "Change it")),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { csrf } = await post("/api/v1/me/password", { old: old.input.value, new: fresh.input.value });
      setCsrf(csrf);
      form.replaceChildren(h("p.notice.good", { role: "status" }, "The password was changed. Other devices have to sign in again."));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      said.className = "notice bad";
      said.textContent = error.message;
    }
  });
  dialog("Change the password", [form]);
  old.input.focus();
}
