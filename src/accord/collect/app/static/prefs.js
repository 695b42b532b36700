// @ts-check
/**
 * What a person chose for this device: theme, single-key shortcuts, guideline panel. A browser that refuses storage
 * gets the defaults and nothing breaks.
 */

/** @param {string} name @param {string} otherwise @returns {string} */
export function pref(name, otherwise) {
  try {
    return localStorage.getItem(`accord.${name}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {string} value */
export function setPref(name, value) {
  try {
    localStorage.setItem(`accord.${name}`, value);
  } catch {
    // Private windows: the choice lasts as long as the page.
  }
}

/** @returns {boolean} whether single letters and digits act (WCAG 2.1.4: they can be switched off) */
export const keysOn = () => pref("keys", "on") === "on";

/** @param {"system" | "light" | "dark"} theme */
export function setTheme(theme) {
  setPref("theme", theme);
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
