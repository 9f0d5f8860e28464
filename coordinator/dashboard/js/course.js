// Where a migration is on its way: phases, waves and the gates between them.

import { h, renew } from "./dom.js";
import { counted, span } from "./format.js";
import { phases, waves } from "./model.js";

const PHASES = { precheck: "Precheck", backup: "Backup", schema: "Schema", data: "Data", verify: "Verify", undo: "Take back" };
const MARKS = { past: "✓", now: "▸", ahead: "" };
const SPOKEN = { past: "done", now: "now", ahead: "to come" };

/** `{ element, update(migration, parts) }` */
export function course() {
  const steps = h("ol", { class: "steps", "aria-label": "Phases" });
  const rollout = h("ol", { class: "steps waves", "aria-label": "Waves" });
  const element = h("div", { class: "course" }, steps, rollout);
  const update = (migration, parts) => {
    const way = phases(migration);
    renew(steps, JSON.stringify(way), () => way.map(({ name, place }) => step(PHASES[name] ?? name, place)));
    const all = migration.waves > 1 ? waves(migration, parts) : [];
    const gate = gateOf(migration);
    renew(rollout, JSON.stringify([all, gate]), () =>
      all.map((wave) => {
        const about = wave.place === "ahead" ? counted(wave.shards, "shard") : `${wave.done} of ${counted(wave.shards, "shard")}`;
        const behind = wave.number === migration.wave ? gate : null;
        return step(`Wave ${wave.number}`, wave.place, behind ? `${about} · ${behind.text}` : about, behind?.tone);
      }),
    );
    rollout.hidden = all.length === 0;
  };
  return { element, update };
}

function step(name, place, about, tone) {
  return h(
    "li",
    { class: "step", data: { place, ...(tone && { tone }) }, "aria-current": place === "now" ? "step" : null },
    h("span", { class: "step-mark", "aria-hidden": "true" }, MARKS[place]),
    h("span", { class: "step-name" }, name, h("span", { class: "unseen" }, `, ${SPOKEN[place]}`)),
    about && h("span", { class: "step-about" }, about),
  );
}

/** What the gate behind the present wave waits for. */
function gateOf({ gate }) {
  if (!gate) return null;
  if (gate.closed) return { text: "gate closed", tone: "warn" };
  return { text: `soaks ${span(Math.ceil(gate.soak_left_ms / 1000))} more`, tone: "busy" };
}
