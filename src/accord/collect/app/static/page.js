// @ts-check
/** What every page has: the theme button, the menu of the account, and forms that say that they are being sent. */
import { pref, setTheme } from "./prefs.js";

const button = document.getElementById("theme-button");

/** @returns {boolean} */
const isDark = () => pref("theme", "system") === "dark" || (pref("theme", "system") === "system" && matchMedia("(prefers-color-scheme: dark)").matches);

function label() {
  const next = isDark() ? "Light theme" : "Dark theme";
  button?.setAttribute("aria-label", next);
  button?.setAttribute("title", next);
}

button?.addEventListener("click", () => {
  setTheme(isDark() ? "light" : "dark");
  label();
});
label();

const account = /** @type {HTMLDetailsElement | null} */ (document.querySelector(".account"));
account?.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !account.open) return;
  account.open = false;
  account.querySelector("summary")?.focus();
});
addEventListener("click", (event) => {
  if (account?.open && !(event.target instanceof Node && account.contains(event.target))) account.open = false;
});

document.getElementById("password-button")?.addEventListener("click", async () => {
  if (account) account.open = false;
  (await import("./password.js")).askPassword();
});

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    for (const sender of form.querySelectorAll("button[type=submit]")) sender.setAttribute("aria-disabled", "true");
  });
}
