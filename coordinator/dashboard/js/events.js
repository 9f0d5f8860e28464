// What happened, newest first.

import { h, reconcile, setAttribute, setText } from "./dom.js";
import { counted, few, time, words } from "./format.js";
import { limitsInWords } from "./throttle.js";

/** So many lines are shown. */
const MOST = 80;

const SENTENCES = {
  submitted: () => "was submitted",
  started: () => "was started",
  approved: () => "was approved",
  ready: () => "begins: nothing is waited for any more",
  paused: () => "was paused",
  halted: ({ failure }) => `halted: ${told(failure)}`,
  throttled: ({ throttle }) => `was throttled: ${throttle ? limitsInWords(throttle) : "otherwise than before"}`,
  resumed: () => "was resumed",
  cancelled: () => "was given up",
  retried: () => "failed steps are tried again",
  rollback_begun: () => "is taken back from here on",
  rolled_back: () => "is taken back",
  phase_entered: ({ phase }) => `all shards entered ${phase}`,
  gate_opened: ({ wave }) => `the gate behind wave ${wave} opened`,
  decided: ({ decision }) => `every shard that has prepared is told to ${decision ?? "wait"}`,
  quarantined: ({ shard, quarantined }) => `${shard}: ${counted(quarantined ?? 0, "row")} set aside`,
  repaired: ({ shard }) => `${shard}: rows that verification had found different were repaired`,
  reopened: ({ shard }) => `${shard}: rows that were set aside are tried again`,
  sessions_ended: ({ shard, step }) => `${shard}: ${step} ended sessions that kept it from its locks`,
  step_failed: ({ shard, step, failure }) => `${shard}: ${step} failed: ${told(failure)}`,
  completed: () => "is completed: everything is done and verified",
  failed: () => "failed",
  refused: () => "its own author must not approve it: refused",
  taken_over: () => "a new leader goes on with it",
};

const told = (failure) => (failure ? `${failure.code}, ${failure.message}` : "for an unknown reason");

const TONES = {
  halted: "bad",
  failed: "bad",
  step_failed: "bad",
  quarantined: "warn",
  sessions_ended: "warn",
  paused: "warn",
  cancelled: "warn",
  refused: "warn",
  rollback_begun: "undo",
  rolled_back: "undo",
  completed: "good",
  gate_opened: "good",
  step_done: "faint",
};

/** `{ element, update(events) }` */
export function eventFeed() {
  const lines = h("ol", { class: "events", role: "log", "aria-live": "off", "aria-labelledby": "events-heading", tabindex: "0" });
  const how = h("span", { class: "soft" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "events-heading" },
    h("div", { class: "panel-head" }, h("h2", { id: "events-heading" }, "Events"), how),
    lines,
  );
  const update = (events, streams) => {
    setText(how, streams ? "live" : "asked for every second");
    const shown = joined(events).reverse().slice(0, MOST);
    reconcile(lines, shown, ({ first }) => first, makeLine, (line, event) => {
      const [at, what, who] = line.children;
      setAttribute(line, "data-tone", TONES[event.event] ?? "busy");
      setAttribute(at, "datetime", event.at);
      setText(at, time(event.at));
      setText(what, sentence(event));
      setText(who, event.actor ?? "");
    });
  };
  return { element, update };
}

function makeLine() {
  return h("li", { class: "event" }, h("time"), h("span", { class: "event-what" }), h("span", { class: "event-who" }));
}

/** Shards that finish the same step one after another share a line: among thousands nothing else would be seen. */
function joined(events) {
  const all = [];
  for (const event of events) {
    const last = all.at(-1);
    const step = event.event === "step_done" ? event.step : null;
    if (step && last?.done === step) {
      last.shards.add(event.shard);
      last.at = event.at;
    } else {
      all.push({ ...event, first: event.sequence, done: step, shards: new Set(step ? [event.shard] : []) });
    }
  }
  return all;
}

/** What happened, in words; an event of a later release by its name. */
function sentence(event) {
  const done = event.done;
  if (!done) return SENTENCES[event.event]?.(event) ?? words(event.event);
  const shards = [...event.shards];
  if (shards.length === 1) return `${shards[0]}: ${done} done`;
  return `${done} done on ${counted(shards.length, "shard")}: ${few(shards.toReversed(), 3)}`;
}
