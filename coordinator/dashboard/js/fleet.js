// Who is there: coordinators, workers, shards that nobody reaches.

import { errorPage } from "./api.js";
import { h, reconcile, renew, setAttribute, setStyle, setText, show } from "./dom.js";
import { count, counted, few } from "./format.js";

/** So many are shown one by one. */
const MOST = 12;

/** `{ element, update(fleet) }` */
export function fleet() {
  const coordinators = h("ul", { class: "plain", role: "list" });
  const workers = h("ul", { class: "plain", role: "list" });
  const unreached = h("ul", { class: "plain", role: "list" });
  const titles = ["Coordinators", "Workers", "Shards"].map((title) => h("h2", { class: "side-title" }, title));
  const notes = titles.map(() => h("p", { class: "soft side-note" }));
  const element = h(
    "div",
    { class: "fleet", hidden: true },
    h("section", {}, titles[0], coordinators, notes[0]),
    h("section", {}, titles[1], workers, notes[1]),
    h("section", {}, titles[2], unreached, notes[2]),
  );
  const update = (known) => {
    show(element, known !== null);
    if (known === null) return;
    drawCoordinators(known.leader, coordinators, notes[0]);
    drawWorkers(known.workers, workers, notes[1]);
    drawShards(known.shards, unreached, notes[2]);
  };
  return { element, update };
}

function drawCoordinators(leader, place, note) {
  const all = leader.coordinators.length > 0 ? leader.coordinators : [{ name: leader.name, address: "", leads: true }];
  renew(place, JSON.stringify(all), () =>
    all.map(({ name, address, leads }) =>
      h(
        "li",
        { class: "one" },
        h("span", { class: "one-name" }, name),
        leads && h("span", { class: "badge", data: { tone: "busy" } }, "leads"),
        h("span", { class: "one-about" }, address),
      ),
    ),
  );
  setText(note, leader.here ? `epoch ${leader.epoch}` : `epoch ${leader.epoch}; this page is served by a follower`);
}

function drawWorkers(all, place, note) {
  // Those that do something, and those that are emptied, before those that wait.
  const order = (worker) => (worker.draining ? 0 : worker.busy > 0 ? 1 : 2);
  const shown = [...all].sort((one, other) => order(one) - order(other)).slice(0, MOST);
  const create = ({ worker }) =>
    h(
      "li",
      { class: "one" },
      h("span", { class: "one-name" }, worker),
      h("span", { class: "badge", data: { tone: "warn" } }, "draining"),
      h("span", { class: "one-about" }),
      h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "bar-fill" })),
    );
  reconcile(place, shown, ({ worker }) => worker, create, (element, { shards, busy, slots, draining }) => {
    const [, badge, about, bar] = element.children;
    show(badge, draining);
    setText(about, `${busy} of ${counted(slots, "slot")} busy · ${shards.length === 1 ? shards[0] : counted(shards.length, "shard")}`);
    setAttribute(element, "title", few(shards, 12));
    setStyle(bar.firstChild, "--whole", `${slots > 0 ? Math.min(100, (busy / slots) * 100) : 0}%`);
  });
  const busy = all.reduce((sum, worker) => sum + worker.busy, 0);
  const slots = all.reduce((sum, worker) => sum + worker.slots, 0);
  const rest = all.length > shown.length ? `${count(all.length - shown.length)} more. ` : "";
  const whole = all.length > 1 ? `All ${count(all.length)}: ${count(busy)} of ${counted(slots, "slot")} busy.` : "";
  setText(note, all.length === 0 ? "No worker is connected. Start one: shardlift-worker --config worker.toml" : rest + whole);
}

function drawShards(all, place, note) {
  const away = all.filter((shard) => !shard.reachable);
  renew(place, JSON.stringify(away.slice(0, MOST)), () =>
    away.slice(0, MOST).map(({ shard, problem }) =>
      h(
        "li",
        { class: "one" },
        h("span", { class: "one-name" }, shard),
        h("span", { class: "badge", data: { tone: "bad" } }, "not reached"),
        problem && h("span", { class: "one-about" }, h("a", { href: errorPage(problem.code) }, problem.code), ` ${problem.message}`),
      ),
    ),
  );
  const rest = away.length > MOST ? `${count(away.length - MOST)} more are not reached. ` : "";
  const word = all.length === 0 ? "No shard is declared." : `${count(all.length - away.length)} of ${counted(all.length, "shard")} reached.`;
  setText(note, rest + word);
}
