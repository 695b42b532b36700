// @ts-check
/** Requests to the server: one place for the CSRF header, time limits and errors in words. */

/** What the server said no to, or that it could not be reached (`status` 0). */
export class ApiError extends Error {
  /** @param {number} status @param {string} message @param {string} [code] */
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** @returns {boolean} whether the same request may succeed later */
  get transient() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** @returns {string} */
export const csrf = () => document.querySelector('meta[name="csrf-token"]')?.getAttribute("content") ?? "";

/** @returns {string} */
export const project = () => document.querySelector('meta[name="project"]')?.getAttribute("content") || "default";

/** @param {string} token */
export function setCsrf(token) {
  document.querySelector('meta[name="csrf-token"]')?.setAttribute("content", token);
  for (const field of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll('input[name="csrf"]'))) field.value = token;
}

/** @param {string} text @returns {string} with a capital and without a full stop: callers put it into their own sentence */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/\.$/, "");

/** @param {Response} response @returns {Promise<ApiError>} */
async function refusal(response) {
  let message = `The server answered ${response.status} ${response.statusText}`.trim();
  let code = "";
  try {
    const body = await response.json();
    message = sentence([body?.error?.message ?? message, body?.error?.fix].filter(Boolean).join(": "));
    code = body?.error?.code ?? "";
  } catch {
    // Not JSON: a proxy in between; the status line has to do.
  }
  return new ApiError(response.status, message, code);
}

/** @returns {Promise<boolean>} whether the session is alive and gave a new token: another tab signed in again */
async function refreshToken() {
  try {
    const { body } = await call("GET", "/api/v1/me");
    setCsrf(body.csrf);
    return true;
  } catch {
    return false;
  }
}

/**
 * One request; JSON in and out.
 * @param {string} method
 * @param {string} path
 * @param {{json?: any, blob?: Blob, seconds?: number, retried?: boolean}} [options]
 * @returns {Promise<{status: number, body: any, headers: Headers}>}
 * @throws {ApiError}
 */
export async function call(method, path, { json, blob, seconds = 20, retried = false } = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["x-csrf-token"] = csrf();
  if (json !== undefined) headers["content-type"] = "application/json";
  if (blob) headers["content-type"] = "application/octet-stream";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: blob ?? (json === undefined ? undefined : JSON.stringify(json)),
      credentials: "same-origin",
      redirect: "manual",
      signal: AbortSignal.timeout(seconds * 1000),
    });
  } catch {
    throw new ApiError(0, "The server cannot be reached");
  }
  if (response.status === 403 && !retried) {
    const error = await refusal(response);
    if (!error.code.includes("csrf") || !(await refreshToken())) throw error;
    return call(method, path, { json, blob, seconds, retried: true });
  }
  if (response.type === "opaqueredirect") throw new ApiError(401, "Your session has ended; sign in again");
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  try {
    return { status: response.status, body: text ? JSON.parse(text) : null, headers: response.headers };
  } catch {
    throw new ApiError(0, "The answer was not the server's: is a sign-in page of the network in between?");
  }
}

/** @param {string} path @param {Record<string, any>} [query] @returns {Promise<any>} */
export async function get(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries({ project: project(), ...query })) {
    if (value !== null && value !== undefined && value !== "") search.set(name, String(value));
  }
  return (await call("GET", `${path}?${search}`)).body;
}

/** @param {string} path @param {any} [json] @returns {Promise<any>} */
export async function post(path, json = {}) {
  return (await call("POST", path, { json })).body;
}

/**
 * Tell the server something while the page goes away; headers are not possible, so the token travels in the body.
 * @param {string} path @param {Record<string, any>} json
 */
export function beacon(path, json) {
  const body = new Blob([JSON.stringify({ ...json, csrf: csrf() })], { type: "application/json" });
  navigator.sendBeacon?.(path, body);
}

/** @returns {string} a UUID for an idempotency key, also on plain http where randomUUID is missing */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
