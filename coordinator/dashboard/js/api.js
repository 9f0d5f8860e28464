// The one module that speaks to the coordinator. All routes stand in one table; a test holds it against the API.

const ROUTES = {
  migrations: "GET /api/v1/migrations",
  migration: "GET /api/v1/migrations/{id}",
  events: "GET /api/v1/migrations/{id}/events",
  shards: "GET /api/v1/shards",
  workers: "GET /api/v1/workers",
  leader: "GET /api/v1/leader",
  start: "POST /api/v1/migrations/{id}/start",
  pause: "POST /api/v1/migrations/{id}/pause",
  resume: "POST /api/v1/migrations/{id}/resume",
  cancel: "POST /api/v1/migrations/{id}/cancel",
  retry: "POST /api/v1/migrations/{id}/retry",
  rollback: "POST /api/v1/migrations/{id}/rollback",
  errorPage: "GET /api/docs/errors/{id}",
  documentation: "GET /api/docs",
};

/** How long an answer may take: longer than the coordinator waits for its leader. */
const PATIENCE = 15_000;

/** A refusal or a missing answer: what happened, its stable code and what to do. */
export class Problem extends Error {
  constructor({ code, message, next, fault = null, retryable = false }) {
    super(message);
    Object.assign(this, { code, next, fault, retryable });
  }
}

/** Method and address of a route. Relative to the page, so that it also works behind a proxy that adds a prefix. */
function route(name, id, query = {}) {
  const [method, path] = ROUTES[name].split(" ");
  const url = new URL(`.${path.replace("{id}", encodeURIComponent(id ?? ""))}`, document.baseURI);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  return [method, url];
}

/** The address of the page about an error code. */
export function errorPage(code) {
  return route("errorPage", code)[1].href;
}

/** The address of the API's own documentation. */
export function documentation() {
  return route("documentation")[1].href;
}

/** Asks; the answer of the coordinator, or a {@link Problem}. */
async function ask(name, id, query, body) {
  const [method, url] = route(name, id, query);
  const headers = { accept: "application/json" };
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    response = await fetch(url, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw unreachable();
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw answer?.code ? problemOf(answer) : unexpected(response.status);
}

/** Of a problem document. */
function problemOf(document) {
  const { code, detail, title, next, fault, retryable } = document;
  return new Problem({ code, message: detail ?? title ?? code, next, fault, retryable });
}

function unreachable() {
  return new Problem({
    code: "coordinator.unreachable",
    message: "the coordinator does not answer",
    next: "see whether its process runs and whether this machine reaches it",
    fault: "network",
    retryable: true,
  });
}

function unexpected(status) {
  return new Problem({
    code: "coordinator.unreachable",
    message: `something other than a coordinator answered, with status ${status}`,
    next: "see what stands between this page and the coordinator, such as a proxy",
    fault: "network",
    retryable: true,
  });
}

/** The newest migrations, at most `limit`: `{ migrations, next }`. */
export const listMigrations = (limit) => ask("migrations", null, { order: "newest", limit });

/** One migration with its shards. */
export const readMigration = (id) => ask("migration", id, {});

/** The newest events of a migration, or those behind `after`: `{ events, last, more }`. */
export const readEvents = (id, query) => ask("events", id, query);

/** Shards, workers and leader. */
export async function readFleet() {
  const [{ shards }, { workers }, leader] = await Promise.all([ask("shards"), ask("workers"), ask("leader")]);
  return { shards, workers, leader };
}

/** Asks for a verb: `{ changed, migration }`. */
export const act = (verb, id, body) => ask(verb, id, {}, body);

/**
 * The live stream of a migration, from behind event `after` on. `listeners` by kind: `history`, `status`, `shards`,
 * `problem`; and `open` and `lost`. The browser itself connects again and resumes behind the last event it had.
 */
export function stream(id, after, listeners) {
  const [, url] = route("events", id, { after, shards: true });
  const source = new EventSource(url);
  for (const kind of ["history", "status", "shards", "problem"]) {
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      listeners[kind](kind === "problem" ? problemOf(data) : data);
    });
  }
  source.addEventListener("open", () => listeners.open());
  source.addEventListener("error", () => listeners.lost(source.readyState === EventSource.CLOSED));
  return source;
}
