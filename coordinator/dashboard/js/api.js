// The one module that speaks to the coordinator. All routes stand in one table; a test holds it against the API.

import { credentials } from "./session.js";

const ROUTES = {
  migrations: "GET /api/v1/migrations",
  migration: "GET /api/v1/migrations/{id}",
  events: "GET /api/v1/migrations/{id}/events",
  shards: "GET /api/v1/shards",
  workers: "GET /api/v1/workers",
  leader: "GET /api/v1/leader",
  me: "GET /api/v1/me",
  approve: "POST /api/v1/plans/{id}/approve",
  start: "POST /api/v1/migrations/{id}/start",
  pause: "POST /api/v1/migrations/{id}/pause",
  resume: "POST /api/v1/migrations/{id}/resume",
  cancel: "POST /api/v1/migrations/{id}/cancel",
  retry: "POST /api/v1/migrations/{id}/retry",
  throttle: "POST /api/v1/migrations/{id}/throttle",
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
  const headers = { accept: "application/json", ...credentials() };
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

/** Who looks at this page: `{ name, role, open }`. */
export const readMe = () => ask("me");

/** Asks for a verb: `{ changed, migration }`. */
export const act = (verb, id, body) => ask(verb, id, {}, body);

/**
 * The live stream of a migration, from behind event `after` on. `listeners` by kind: `history`, `status`, `shards`,
 * `problem`; and `open`, and `lost` when it has ended, for whatever reason: it is opened again behind the last event that came.
 * A browser's own EventSource shows no token, so the stream is read as any answer is.
 */
export function stream(id, after, listeners) {
  const [, url] = route("events", id, { after, shards: true });
  const ending = new AbortController();
  const told = (kind, text) => {
    const data = JSON.parse(text);
    listeners[kind]?.(kind === "problem" ? problemOf(data) : data);
  };
  const follow = async () => {
    const headers = { accept: "text/event-stream", ...credentials() };
    const response = await fetch(url, { headers, signal: ending.signal, cache: "no-store" });
    if (!response.ok) return;
    listeners.open();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) read(event, told);
    }
  };
  const end = () => ending.signal.aborted || listeners.lost();
  follow().then(end, end);
  return { close: () => ending.abort() };
}

/** One server-sent event: its kind and its data. What has none, such as a comment, is passed over. */
function read(event, told) {
  const lines = event.split("\n");
  const part = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
  const [kind] = part("event");
  const data = part("data").join("\n");
  if (kind && data) told(kind, data);
}
