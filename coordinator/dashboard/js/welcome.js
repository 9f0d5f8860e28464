// The page before there is a migration: what is ready, and the commands to begin with.

import { h, renew } from "./dom.js";
import { counted } from "./format.js";

const STEPS = [
  ["Write a spec", "shardlift new data postgres message_body", "A commented file: which rows, and what becomes of them."],
  ["Read the plan", "shardlift plan migrations/", "What would happen on each shard, and what is in the way. Changes nothing."],
  ["Apply it", "shardlift apply migrations/", "Shows the plan again, asks, and begins. This page follows it live."],
];

/** `{ element, update(fleet) }` */
export function welcome() {
  const ready = h("ul", { class: "ready", role: "list" });
  const element = h(
    "section",
    { class: "welcome", hidden: true },
    h("h1", {}, "No migration yet"),
    h("p", { class: "lead" }, "Change the schema and the data of all shards as one safe operation. It begins on the command line:"),
    h("ol", { class: "lessons" }, ...STEPS.map(([title, command, about]) => h("li", {}, h("h2", {}, title), h("code", { class: "command" }, command), h("p", { class: "soft" }, about)))),
    ready,
  );
  const update = (fleet) => {
    const all = fleet === null ? [] : readiness(fleet);
    renew(ready, JSON.stringify(all), () =>
      all.map(([tone, mark, text]) => h("li", { data: { tone } }, h("span", { class: "swatch", data: { tone }, "aria-hidden": "true" }, mark), text)),
    );
  };
  return { element, update };
}

function readiness({ leader, workers, shards }) {
  const reached = shards.filter((shard) => shard.reachable).length;
  const good = (text) => ["good", "✓", text];
  const bad = (text) => ["warn", "!", text];
  return [
    good(`${leader.name} leads, epoch ${leader.epoch}`),
    workers.length > 0 ? good(`${counted(workers.length, "worker")} connected`) : bad("No worker is connected. Start one beside your shards: shardlift-worker --config worker.toml"),
    shards.length === 0
      ? bad("No shard is declared. Name your shards in the coordinator's file, under [[cluster]].")
      : reached === shards.length
        ? good(`${counted(shards.length, "shard")} declared, all reached`)
        : bad(`${reached} of ${counted(shards.length, "shard")} reached: shardlift shards says why`),
  ];
}
