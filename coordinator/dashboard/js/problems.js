// What failed or struggles on shards, each thing once with the shards it concerns.

import { where } from "./callouts.js";
import { h, renew, show, spoken } from "./dom.js";
import { counted, few } from "./format.js";
import { problems } from "./model.js";

/** So many different ones are shown. */
const MOST = 20;

/** `{ element, update(migration, parts) }` */
export function problemList() {
  const entries = h("ul", { class: "problems", role: "list" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "problems-heading", hidden: true },
    h("div", { class: "panel-head" }, h("h2", { id: "problems-heading" }, "Problems on shards")),
    entries,
  );
  const update = (migration, parts) => {
    // What the notice at the top says is not said twice.
    const told = migration.halted ?? migration.error;
    const known = ({ failure, shards }) => shards.length === 1 && failure.message === told?.message && failure.shard === told.shard;
    const all = problems(parts).filter((problem) => !known(problem));
    show(element, all.length > 0);
    const shown = all.slice(0, MOST);
    renew(entries, JSON.stringify([shown, all.length]), () => [
      ...shown.map(entry),
      all.length > shown.length && h("li", { class: "soft" }, `${counted(all.length - shown.length, "more kind")} of problem`),
    ]);
  };
  return { element, update };
}

function entry({ failure, passing, shards }) {
  const about = shards.length === 1 ? failure : { ...failure, shard: null, key: null };
  return h(
    "li",
    { class: "problem", data: { tone: passing ? "warn" : "bad" } },
    h(
      "p",
      { class: "problem-head" },
      h("span", { class: "badge", data: { tone: passing ? "warn" : "bad" } }, passing ? "tried again by itself" : "failed"),
      h("strong", {}, shards.length === 1 ? shards[0] : counted(shards.length, "shard")),
      shards.length > 1 && h("span", { class: "soft" }, few(shards)),
    ),
    h("p", {}, spoken(failure.message)),
    where({ ...about, shard: null }),
    h("p", { class: "callout-next" }, h("b", {}, "What to do: "), spoken(failure.next)),
  );
}
