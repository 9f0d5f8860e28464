// What the answers of the API mean: pure functions of a migration and its shards. Nothing here touches the page.

/** Phases in their order, by kind. */
const COURSE = { schema: ["precheck", "schema", "verify"], data: ["precheck", "data", "verify"] };

/**
 * How a shard's part can stand, in the order of a run. `mark` tells it without colour; `tone` is the colour's name.
 */
export const STATES = {
  waiting: { mark: "·", tone: "idle", text: "waits for its turn" },
  precheck: { mark: "P", tone: "early", text: "precheck" },
  backup: { mark: "K", tone: "early", text: "is saved before it changes" },
  apply: { mark: "A", tone: "busy", text: "schema is applied" },
  prepare: { mark: "2", tone: "early", text: "prepared, waits for the decision" },
  commit: { mark: "C", tone: "busy", text: "what was prepared is committed" },
  abort: { mark: "↶", tone: "undo", text: "what was prepared is rolled back" },
  split: { mark: "R", tone: "early", text: "ranges are laid out" },
  backfill: { mark: "B", tone: "busy", text: "rows are changed" },
  sweep: { mark: "S", tone: "late", text: "searched for late rows" },
  verify: { mark: "V", tone: "late", text: "verified" },
  collect: { mark: "D", tone: "late", text: "digests are collected, so that shards can be compared" },
  undo: { mark: "U", tone: "undo", text: "is taken back" },
  trouble: { mark: "!", tone: "warn", text: "in trouble, tried again by itself" },
  failed: { mark: "✕", tone: "bad", text: "failed" },
  other: { mark: "?", tone: "busy", text: "a step that this page does not know" },
  undone: { mark: "↺", tone: "undone", text: "taken back" },
  untouched: { mark: "–", tone: "idle", text: "left as it was" },
  done: { mark: "✓", tone: "good", text: "done" },
};

/** Whether nothing happens any more by itself. */
export function rests(migration) {
  return ["completed", "cancelled", "rolled_back", "failed", "paused"].includes(migration.status);
}

/** Whether it is over for good. */
export function isOver(migration) {
  return ["completed", "cancelled", "rolled_back"].includes(migration.status);
}

/** Whether it is on the way back, or was. */
export function isUndoing(migration) {
  return migration.phase === "undo" || ["rolling_back", "rolled_back"].includes(migration.status);
}

/** Whether nothing is kept that a rollback would need: its spec did not ask for it, or it was given up. */
export function isOneWay(migration) {
  return migration.undoable === false || Boolean(migration.before_images);
}

/** Whether the system stopped it, and not a person. */
export function isHalted(migration) {
  return migration.status === "paused" && Boolean(migration.halted);
}

/** `halted`, `running`, …: the word for where it stands. */
export function standing(migration) {
  if (isHalted(migration)) return "halted";
  if (migration.status === "pending" && migration.released === false) return "not started";
  if (migration.status === "running" && migration.gate) return migration.gate.closed ? "gate closed" : "soaking";
  return migration.status.replaceAll("_", " ");
}

/** The name of the colour and shape of a standing. */
export function toneOf(migration) {
  switch (migration.status) {
    case "running":
      return migration.gate?.closed ? "warn" : "busy";
    case "completed":
      return migration.quarantined > 0 ? "warn" : "good";
    case "failed":
      return "bad";
    case "paused":
      return migration.halted ? "bad" : "warn";
    case "rolling_back":
      return "undo";
    default:
      return "idle";
  }
}

/** Groups of the list, what needs a person first. */
export function urgency(migration) {
  if (migration.status === "failed" || migration.status === "paused" || migration.gate?.closed) return 0;
  if (migration.status === "running" || migration.status === "rolling_back") return 1;
  return migration.status === "pending" ? 2 : 3;
}

/** Headings of the groups. */
export const GROUPS = ["Needs you", "Running", "Waiting", "Over"];

/** How a shard's part stands. */
export function stateOf(part, migration) {
  if (part.error) return "failed";
  if (!part.step) {
    if (!isUndoing(migration)) return "done";
    return part.rows_done > 0 || migration.kind === "schema" ? "undone" : "untouched";
  }
  if (migration.status === "pending") return "waiting";
  if (migration.status === "cancelled") return "untouched";
  if (part.trouble) return "trouble";
  if (part.wave > migration.wave && part.step !== "precheck") return "waiting";
  return part.step in STATES ? part.step : "other";
}

/** The sums over all shards that the page shows. */
export function summary(migration, parts) {
  const sum = { shards: parts.length, rate: 0, remaining: 0, batch: 0, busy: 0, done: 0, eta: null, workers: 0 };
  let [weights, walked, batches] = [0, 0, 0];
  const workers = new Set();
  for (const part of parts) {
    // A shard counts by its rows; at least one, so that an empty one is not done before it was visited.
    const weight = Math.max(1, part.rows_total);
    weights += weight;
    walked += weight * part.fraction;
    sum.remaining += part.fraction === 1 ? 0 : Math.max(0, part.rows_total - part.rows_seen);
    sum.rate += part.rows_per_second;
    if (part.step === "backfill" && part.batch_size > 0) {
      sum.batch += part.batch_size;
      batches += 1;
    }
    if (part.workers.length > 0) sum.busy += 1;
    for (const worker of part.workers) workers.add(worker);
    if (!part.step && !part.error) sum.done += 1;
    if (part.eta_seconds !== null) sum.eta = Math.max(sum.eta ?? 0, part.eta_seconds);
  }
  sum.fraction = shareDone(migration, sum, weights > 0 ? walked / weights : 0);
  sum.batch = batches > 0 ? sum.batch / batches : 0;
  sum.workers = workers.size;
  // Shards of later waves do not say how long they will take: their rows do, at the speed of now.
  if (sum.eta !== null && sum.rate > 0) sum.eta = Math.max(sum.eta, Math.ceil(sum.remaining / sum.rate));
  if (migration.status !== "running") sum.eta = null;
  return sum;
}

/** A schema change is as far as its shards are; a data migration as its rows are walked. */
function shareDone(migration, sum, walked) {
  if (migration.status === "completed" || migration.status === "rolled_back") return 1;
  if (migration.kind === "schema" || isUndoing(migration)) return sum.shards > 0 ? sum.done / sum.shards : 0;
  return walked;
}

/** Share of the rows changed, of what a list tells: it has no shards. */
export function roughFraction(migration) {
  if (migration.status === "completed" || migration.status === "rolled_back") return 1;
  if (!(migration.rows_total > 0)) return 0;
  return Math.min(0.99, migration.rows_done / migration.rows_total);
}

/** The phases of a migration, each `past`, `now` or `ahead`. */
export function phases(migration) {
  const usual = COURSE[migration.kind] ?? COURSE.data;
  // Only some migrations save what they change: the phase is shown while one is in it.
  const course = migration.phase === "backup" ? ["precheck", "backup", ...usual.slice(1)] : usual;
  if (isUndoing(migration)) {
    return [{ name: "undo", place: migration.status === "rolled_back" ? "past" : "now" }];
  }
  const now = course.indexOf(migration.phase);
  const place = (at) => {
    if (migration.status === "completed" || at < now) return "past";
    return at === now && migration.status !== "pending" ? "now" : "ahead";
  };
  return course.map((name, at) => ({ name, place: place(at) }));
}

/** The waves with their shards and how many of those are done. */
export function waves(migration, parts) {
  const all = Array.from({ length: migration.waves }, (_, at) => ({ number: at + 1, shards: 0, done: 0 }));
  for (const part of parts) {
    const wave = all[part.wave - 1];
    if (!wave) continue;
    wave.shards += 1;
    if (!part.step && !part.error) wave.done += 1;
  }
  for (const wave of all) {
    const past = wave.number < migration.wave || migration.status === "completed";
    wave.place = past ? "past" : wave.number === migration.wave && migration.status !== "pending" ? "now" : "ahead";
  }
  return all;
}

/** Everything that failed or is in trouble, the same on many shards once: `{ failure, shards, passing }`. */
export function problems(parts) {
  const all = new Map();
  const add = (failure, part, passing) => {
    if (!failure) return;
    const key = JSON.stringify([passing, failure.code, failure.message]);
    const known = all.get(key) ?? { key, failure, passing, shards: [] };
    known.shards.push(part.shard);
    all.set(key, known);
  };
  for (const part of parts) {
    add(part.error, part, false);
    add(part.trouble, part, true);
  }
  return [...all.values()].sort((one, other) => one.passing - other.passing || other.shards.length - one.shards.length);
}
