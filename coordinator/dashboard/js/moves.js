// Which verbs a status and a role allow, and what each will do, in words for the one who is about to do it. The coordinator
// decides; this only keeps buttons away that it would refuse.

import { count, counted } from "./format.js";
import { isOneWay, isUndoing } from "./model.js";
import { covers } from "./session.js";
import { throttleMeaning } from "./throttle.js";

const TABLE = {
  pending: ["throttle", "cancel"],
  running: ["pause", "throttle", "cancel", "rollback"],
  paused: ["resume", "throttle", "cancel", "rollback"],
  failed: ["retry", "throttle", "cancel", "rollback"],
  completed: ["rollback"],
  cancelled: ["rollback"],
  rolling_back: ["pause"],
  rolled_back: [],
};

/** The words on the buttons. */
export const LABELS = {
  approve: "Approve",
  start: "Start",
  pause: "Pause",
  resume: "Resume",
  retry: "Retry",
  throttle: "Throttle",
  cancel: "Cancel",
  rollback: "Roll back",
};

/** What can be asked for now, in the order of the buttons. */
export function verbs(migration, me) {
  const approve = migration.approval_needed && covers(me, "approver") ? ["approve"] : [];
  return covers(me, "operator") ? [...approve, ...moves(migration)] : approve;
}

function moves(migration) {
  const allowed = [...(TABLE[migration.status] ?? [])];
  if (migration.status === "pending" && migration.released === false) allowed.unshift("start");
  const senseless = [(isUndoing(migration) || isOneWay(migration)) && "rollback", (isUndoing(migration) || !migration.throttle) && "throttle"];
  return allowed.filter((verb) => !senseless.includes(verb));
}

/**
 * What a verb will do: `{ title, will, button, command, grave, option, form }`. `will` are sentences; `option` is a choice of
 * the person, such as `drop_data`, and `form` more than one.
 */
export function explain(verb, migration, sum, parts) {
  const name = migration.id;
  const text = { command: `shardlift ${verb} ${name}`, button: LABELS[verb], title: `${LABELS[verb]} ${name}?` };
  return { ...text, ...MEANING[verb](migration, sum, parts) };
}

const MEANING = {
  approve: (migration) => ({
    command: `shardlift approve ${migration.id} --checksum ${migration.checksum}`,
    body: { checksum: migration.checksum },
    will: [
      `You say that exactly this content, with the checksum ${migration.checksum.slice(0, 12)}…, may begin.`,
      migration.author ? `It was submitted by ${migration.author}.` : null,
      migration.released ? "It begins by itself then, as soon as nothing else is waited for." : "It begins when somebody starts it.",
    ],
  }),
  start: (migration) => ({
    will: [
      "It begins as soon as what it waits for is completed and nobody else works on its tables.",
      migration.waves > 1
        ? `It goes in ${migration.waves} waves: the first one is small, and a gate stands behind each.`
        : "All of its shards go at once.",
    ],
  }),
  pause: (migration, sum) => ({
    will: [
      sum.busy > 0
        ? `No more work is handed out. ${counted(sum.workers, "worker")} on ${counted(sum.busy, "shard")} finish the batch in hand.`
        : "No more work is handed out.",
      "What is done stays done. It keeps its tables, and goes on where it stands when somebody resumes it.",
      migration.gate ? "The soak of this wave begins anew after that." : null,
    ],
  }),
  resume: (migration) => ({
    will: [
      migration.halted
        ? "The steps that failed are tried again, and the rest goes on where it stands. Mend the cause first: otherwise it halts again."
        : "It goes on where it stands. No row is changed a second time.",
      isUndoing(migration) ? "It goes on with taking back what was changed." : null,
    ],
  }),
  retry: (migration) => ({
    will: [
      "The steps that failed are tried again; what is done stays done. Mend the cause first: otherwise it fails again.",
      isUndoing(migration) ? "It goes on with taking back what was changed." : null,
    ],
  }),
  throttle: (migration, _sum, parts) => throttleMeaning(migration, parts),
  cancel: (migration, sum) => ({
    title: `Give up ${migration.id}?`,
    button: "Give it up",
    grave: true,
    will: [
      migration.status === "pending"
        ? "Nothing of it has begun and nothing will. Its id is free for another content."
        : "It is given up for good: it cannot be resumed.",
      changed(migration, sum),
      "What waits for it will not begin.",
    ],
  }),
  rollback: (migration) => ({
    button: "Roll it back",
    grave: true,
    will: [
      "From here on there is only the way back: nothing more is changed, and what was changed is taken back on every shard that was touched.",
      migration.kind === "data"
        ? `${count(migration.rows_done)} changed rows get their old values. Rows that the application has changed since are left alone and listed as conflicts.`
        : "Its down statements run on every shard that has had up.",
      migration.kind === "data"
        ? null
        : "Where a down would drop values that were written since, it halts before it has changed anything there.",
    ],
    option:
      migration.kind === "schema"
        ? { key: "drop_data", text: "Drop such values as well (--drop-data). They are lost.", flag: " --drop-data" }
        : null,
  }),
};

function changed(migration, sum) {
  if (migration.status === "pending") return null;
  if (isUndoing(migration)) return "It is left half undone. It can be rolled back to the end later.";
  if (migration.kind === "data" && migration.rows_done > 0) {
    return `${count(migration.rows_done)} rows keep their new form, the others their old one. ${isOneWay(migration) ? "Its spec keeps nothing to roll it back with." : "It can still be rolled back later."}`;
  }
  return `What is done on ${counted(sum.shards, "shard")} stays done.`;
}
