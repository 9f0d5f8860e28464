// Everything about the migration that is looked at.

import { callouts } from "./callouts.js";
import { course } from "./course.js";
import { h, reconcile, renew, setAttribute, setStyle, setText, show, spoken } from "./dom.js";
import { eventFeed } from "./events.js";
import { count, counted, percent, sentence, short, span, time } from "./format.js";
import { grid } from "./grid.js";
import { isUndoing, standing, summary, toneOf } from "./model.js";
import { explain, LABELS, verbs } from "./moves.js";
import { plot } from "./plot.js";
import { problemList } from "./problems.js";
import { limitsInWords } from "./throttle.js";

/** `{ element, update(followed, stale, me) }`; `act(verb, id, meaning)` is called for a button. */
export function detail({ act }) {
  const head = heading(act);
  const parts = [callouts(), course(), grid(), problemList()];
  const [told, way, cells, problems] = parts;
  const run = progress();
  const plots = plotRow();
  const feed = eventFeed();
  const missing = h("p", { class: "callout", hidden: true, role: "alert" });
  const whole = h(
    "div",
    { class: "whole", hidden: true },
    head.element,
    told.element,
    run.element,
    way.element,
    plots.element,
    cells.element,
    problems.element,
    feed.element,
  );
  const element = h("article", { class: "detail" }, missing, whole);

  const update = (followed, stale, me) => {
    const migration = followed.migration;
    show(whole, migration !== null);
    show(missing, migration === null && followed.problem !== null);
    const told = [followed.problem?.message, followed.problem?.next].filter(Boolean).map(sentence).join(" ");
    renew(missing, told, () => spoken(told));
    if (migration === null) return;
    const all = [...followed.parts.values()];
    const sum = summary(migration, all);
    head.update(migration, all, sum, stale, me);
    run.update(migration, sum);
    plots.update(migration, followed.samples.samples);
    for (const part of parts) part.update(migration, all);
    feed.update(followed.events, followed.streams);
  };
  return { element, update };
}

/** Name, standing and the buttons that this standing allows. */
function heading(act) {
  const name = h("h1", { class: "name", tabindex: "-1" });
  const badge = h("span", { class: "badge large" });
  const about = h("p", { class: "soft about" });
  const buttons = h("div", { class: "buttons", role: "group", "aria-label": "Actions" });
  const element = h(
    "header",
    { class: "head" },
    h("a", { class: "back", href: "#" }, "‹ All migrations"),
    h("div", { class: "head-name" }, name, badge, about),
    buttons,
  );
  let now = null;
  const create = (verb) => {
    const ask = () => act(verb, now.migration.id, explain(verb, now.migration, now.sum, now.parts));
    return h("button", { type: "button", class: "button", data: { verb }, on: { click: ask } }, LABELS[verb]);
  };
  const update = (migration, parts, sum, stale, me) => {
    now = { migration, sum, parts };
    setText(name, migration.id);
    setText(badge, standing(migration));
    setAttribute(badge, "data-tone", toneOf(migration));
    setText(about, facts(migration));
    setAttribute(about, "title", `checksum ${migration.checksum}`);
    reconcile(buttons, verbs(migration, me), (verb) => verb, create, (button) => setAttribute(button, "disabled", stale ? "" : null));
  };
  return { element, update };
}

function facts(migration) {
  const words = [`${migration.kind} migration`, migration.engine, `cluster ${migration.cluster}`];
  if (migration.version > 1) words.push(`version ${migration.version}`);
  if (migration.author) words.push(`by ${migration.author}`);
  if (migration.approved_by) words.push(`approved by ${migration.approved_by}`);
  const when = migration.completed_at ? ["ended", migration.completed_at] : ["started", migration.started_at];
  if (when[1]) words.push(`${when[0]} ${time(when[1])}`);
  else words.push(`submitted ${time(migration.created_at)}`);
  return words.join(" · ");
}

/** The one bar, and the figures beside it. */
function progress() {
  const fill = h("span", { class: "bar-fill" });
  const bar = h("div", { class: "bar thick", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const figures = h("dl", { class: "figures" });
  const element = h("section", { class: "run" }, bar, figures);
  const update = (migration, sum) => {
    setAttribute(bar, "aria-valuenow", Math.floor(sum.fraction * 100));
    setAttribute(bar, "data-tone", toneOf(migration));
    setStyle(fill, "--whole", `${(sum.fraction * 100).toFixed(2)}%`);
    const all = figuresOf(migration, sum);
    renew(figures, JSON.stringify(all), () =>
      all.map(([title, value, about]) => h("div", { class: "figure" }, h("dt", {}, title), h("dd", {}, value, about && h("small", {}, about)))),
    );
  };
  return { element, update };
}

function figuresOf(migration, sum) {
  const all = [];
  if (migration.kind === "data" && !isUndoing(migration)) {
    all.push(["Walked", percent(sum.fraction), null]);
    all.push(["Rows changed", count(migration.rows_done), `of about ${count(migration.rows_total)}`]);
    all.push(["Rows per second", sum.rate > 0 ? count(sum.rate) : "–", limits(migration.throttle)]);
    all.push(["Time left", sum.eta === null ? "–" : span(sum.eta), sum.eta === null ? null : "at this speed"]);
  }
  if (isUndoing(migration) && migration.kind === "data") {
    all.push(["Rows restored", count(migration.rows_restored), `of ${count(migration.rows_done)} changed`]);
    all.push(["Conflicts", count(migration.conflicts), "left alone"]);
  }
  all.push(["Shards done", count(sum.done), `of ${count(sum.shards)}`]);
  all.push(["Busy now", counted(sum.busy, "shard"), sum.workers > 0 ? `by ${counted(sum.workers, "worker")}` : null]);
  if (migration.quarantined + migration.discarded > 0) {
    all.push(["Set aside", count(migration.quarantined), migration.discarded > 0 ? `${count(migration.discarded)} discarded` : "to decide about"]);
  }
  return all;
}

/** The throttle in words; nothing where none was ever said. */
function limits(throttle) {
  const { rows_per_second: rate, window, in_spec: before } = throttle ?? {};
  return rate || window || before ? limitsInWords(throttle) : null;
}

/** How it went since the page was opened. */
function plotRow() {
  const all = [
    plot({ title: "Throughput", unit: "rows/s", value: ({ rate }) => rate, text: short, tone: "busy" }),
    plot({ title: "Batch size", unit: "rows, mean", value: ({ batch }) => batch, text: short, tone: "late" }),
    plot({ title: "Remaining", unit: "rows to walk", value: ({ remaining }) => remaining, text: short, tone: "early" }),
  ];
  const element = h("section", { class: "plots", "aria-label": "Course of the run" }, ...all.map((one) => one.element));
  const update = (migration, samples) => {
    // A schema change walks no rows, and what is over says nothing new.
    show(element, migration.kind === "data" && samples.length > 0);
    for (const one of all) one.update(samples);
  };
  return { element, update };
}
