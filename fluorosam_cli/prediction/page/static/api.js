// Talking to the server: the token from the address, and errors as sentences.

const token = takeToken();

export class Problem extends Error {
  constructor(status, error, hint) {
    super(hint ? `${sentence(error)} ${sentence(hint)}` : sentence(error));
    this.status = status;
  }
}

export async function call(path, { method = "GET", json, body, keepalive = false } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (json !== undefined || body !== undefined) {
    method = "POST";
    headers["Content-Type"] = json !== undefined ? "application/json" : "application/octet-stream";
  }
  let response;
  try {
    response = await fetch(`api/${path}`, { method, headers, keepalive, body: json !== undefined ? JSON.stringify(json) : body });
  } catch {
    throw new Problem(0, "the server does not answer", "is `fluoro serve` still running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({ error: response.statusText }));
  throw new Problem(response.status, said.error ?? "something went wrong", said.hint);
}

export const getJson = async (path, options) => (await call(path, options)).json();

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function sentence(text) {
  const whole = text.trim();
  const begin = whole.includes(": ") ? whole : whole.charAt(0).toUpperCase() + whole.slice(1); // a file's name stays
  return begin + (/[.?!]$/.test(whole) ? "" : ".");
}

// The token moves from the address into this tab's storage, so that it is not shown, bookmarked or shared by accident.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}
