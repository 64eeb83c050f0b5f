// Signing in: a token becomes an HttpOnly cookie that this script cannot read. EventSource sends no Authorization header.

import { byId } from "./format.js";

/** The signed-in caller {tenant_id, channels, expires_s}, or null. Throws when the gateway does not answer. */
export async function current() {
  const response = await fetch("/v1/session", { cache: "no-store" });
  if (response.ok) return response.json();
  if (response.status === 401) return null;
  throw new Error(`GET /v1/session: ${response.status}`);
}

/** Trades a token for the cookie. Throws with the gateway's own words when it is refused. */
export async function signIn(token) {
  const response = await fetch("/v1/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? `refused with status ${response.status}`);
  return answer;
}

export const signOut = () => fetch("/v1/session", { method: "DELETE" });

/** The token of an address like /#token=…, which is removed from the address bar and the history. */
export function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

/** Shows the form (with a reason, if any) until a token is accepted; resolves to the caller. */
export function ask(reason = "") {
  const panel = byId("sign-in");
  const form = byId("sign-in-form");
  const field = byId("token");
  const error = byId("sign-in-error");
  panel.hidden = false;
  error.textContent = reason;
  field.focus();
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      error.textContent = "";
      try {
        const caller = await signIn(field.value.trim());
        field.value = "";
        panel.hidden = true;
        resolve(caller);
      } catch (refusal) {
        error.textContent = refusal.message;
        field.select();
      }
    };
  });
}
