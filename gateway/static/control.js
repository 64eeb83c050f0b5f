// The operators' API. Every call throws an Error with the server's own words when it is refused.

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.detail ?? `refused with status ${response.status}`), { status: response.status });
  return body;
}

export const get = async (path) => answer(await fetch(`/v1/control/${path}`, { cache: "no-store" }));

export const post = async (path, body) =>
  answer(await fetch(`/v1/control/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));
