// What a person has to know before anything else: why it stands still, and what to do now.

import { errorPage } from "./api.js";
import { h, renew, spoken } from "./dom.js";
import { counted, few, span } from "./format.js";
import { isHalted, isOneWay, isUndoing } from "./model.js";

const FAULTS = {
  user: "the spec or the request",
  application: "the application or its data",
  shard: "the database server of the shard",
  network: "the network",
  shardlift: "Shardlift",
};

/** `{ element, update(migration) }` */
export function callouts() {
  const element = h("div", { class: "callouts" });
  const update = (migration) => {
    const all = told(migration);
    renew(element, JSON.stringify(all), () => all.map(callout));
  };
  return { element, update };
}

function told(migration) {
  const all = [];
  const add = (tone, title, failure, todo) => all.push({ tone, title, failure, todo });
  const { id, gate, status } = migration;
  if (isHalted(migration)) {
    add("bad", "Halted by the system", migration.halted, `Possible now: ${ways(migration, "resume")}.`);
  } else if (status === "paused") {
    add("warn", "Paused by a person", null, `Nothing moves until somebody acts: ${ways(migration, "resume")}.`);
  }
  if (status === "failed") add("bad", "Failed", migration.error, `Possible now: ${ways(migration, "retry")}.`);
  if (gate?.closed) add("warn", "The gate behind this wave is closed", gate.closed, "It opens by itself when that is over.");
  if (gate && !gate.closed) {
    const left = span(Math.ceil(gate.soak_left_ms / 1000));
    add("busy", `Wave ${migration.wave} is done and verified, and soaks`, null, `The next step begins in ${left}, if its shards are in health. Pause it if you see something odd.`);
  }
  if (migration.decided) {
    const what = { commit: "Every shard commits", abort: "No shard commits" }[migration.decided] ?? migration.decided;
    add(migration.decided === "abort" ? "undo" : "busy", `Decided: ${migration.decided}`, null, `${what}. The decision is stored; shards that have prepared hold their locks until they have heard it.`);
  }
  if (migration.rolled_back_for) add("undo", "Rolled back by the system", migration.rolled_back_for, null);
  if (migration.approval_needed) add("warn", "Needs an approval", migration.approval_needed, null);
  if (status === "pending" && migration.released === false) {
    add("idle", "Not started", null, `Start it here, or with: \`shardlift start ${id}\``);
  } else if (status === "pending" && migration.waiting_for.length > 0) {
    add("idle", "Waits", null, `Begins when these are completed: ${few(migration.waiting_for)}.`);
  }
  if (migration.quarantined > 0) {
    add("warn", `${counted(migration.quarantined, "row")} set aside`, null, `They could not be changed and wait for a decision: \`shardlift quarantine list ${id}\``);
  }
  if (migration.conflicts > 0) {
    add("warn", `${counted(migration.conflicts, "row")} left alone by the rollback`, null, `They are not what was written any more: \`shardlift conflicts ${id}\``);
  }
  if (migration.uncovered.length > 0) {
    add("warn", `${counted(migration.uncovered.length, "shard")} not covered`, null, `Joined the cluster after the plan was made: ${few(migration.uncovered)}. They need a migration of their own.`);
  }
  return all;
}

function ways(migration, verb) {
  if (isUndoing(migration)) return `${verb}, or cancel and leave it half undone`;
  return isOneWay(migration) ? `${verb} or give up` : `${verb}, roll back or give up`;
}

function callout({ tone, title, failure, todo }) {
  return h(
    "section",
    { class: "callout", data: { tone } },
    h("h2", { class: "callout-title" }, title),
    failure && h("p", { class: "callout-what" }, spoken(failure.message)),
    failure && where(failure),
    failure && h("p", { class: "callout-next" }, h("b", {}, "What to do: "), spoken(failure.next)),
    todo && h("p", { class: "callout-next" }, spoken(todo)),
  );
}

/** Code, place and fault of a failure, as one line. */
export function where(failure) {
  const place = [
    failure.shard && `shard ${failure.shard}`,
    failure.step && `step ${failure.step}`,
    failure.key && `key ${failure.key}`,
    FAULTS[failure.fault] && `fault of ${FAULTS[failure.fault]}`,
  ].filter(Boolean);
  return h(
    "p",
    { class: "where" },
    h("a", { class: "code", href: errorPage(failure.code) }, failure.code),
    place.length > 0 && ` · ${place.join(" · ")}`,
  );
}
