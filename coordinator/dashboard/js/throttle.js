// How fast a data migration may go, and when: what holds now, and what a person wants instead. What is left as it is, is not
// said; what the spec says can be taken back.

import { h, setAttribute, setText } from "./dom.js";
import { count, span } from "./format.js";

const MOST = 100_000_000;

/** A throttle in words: `at most 2,000 rows/s a shard, 22:00-06:00 UTC`, and that it is not the spec's. */
export function limitsInWords({ rows_per_second: rate, window, in_spec: before }) {
  const words = [rate === null ? "no limit" : `at most ${count(rate)} rows/s a shard`, window ?? "at any time"];
  return [...words, ...(before ? ["not as in the spec"] : [])].join(", ");
}

/** The fields of the question: `{ element, answer() }`, where the answer is `{ body, flags, ready, button, hint }`. */
function throttleForm({ throttle: now }, parts) {
  const speed = speedFields(now.rows_per_second, now.in_spec?.rows_per_second);
  const time = timeFields(now.window, now.in_spec?.window);
  const back = now.in_spec && h("input", { type: "checkbox", id: "throttle-back" });
  const again = back && h("label", { class: "choice" }, back, h("span", {}, `As in the spec again: ${limitsInWords(now.in_spec)}`));
  const element = h("div", { class: "fields" }, speed.element, time.element, again);

  const answer = () => {
    const whole = Boolean(back?.checked);
    for (const fields of [speed, time]) fields.element.disabled = whole;
    if (whole) return { body: { as_in_spec: true }, flags: " --as-in-spec", ready: true, button: "As in the spec", hint: "" };
    const [pace, day] = [speed.answer(), time.answer()];
    const flags = pace.flag + day.flag;
    return {
      body: { ...pace.body, ...day.body },
      flags,
      ready: flags !== "",
      button: pace.body.no_limit ? "Lift the limit" : "Throttle it",
      hint: outlook(parts, pace.rate, day.daily),
    };
  };
  return { element, answer };
}

/** A limit with fields of its own, or none. `bound`: its first words, then what stands around the fields. */
function pair({ name, legend, free, bound, fields, isBound }) {
  const radio = (checked, id) => h("input", { type: "radio", name, id, checked });
  const [some, none] = [radio(isBound, `${name}-bound`), radio(!isBound, `${name}-free`)];
  const [first, ...rest] = bound;
  const element = h(
    "fieldset",
    { class: "pair" },
    h("legend", {}, legend),
    h("div", { class: "choice" }, some, h("span", { class: "bound" }, h("label", { for: some.id }, first), ...rest)),
    h("label", { class: "choice" }, none, h("span", {}, free)),
  );
  // Whoever fills in a field means it.
  for (const field of fields) field.addEventListener("input", () => (some.checked = true));
  const isChosen = () => {
    for (const field of fields) {
      setAttribute(field, "required", some.checked);
      if (some.checked) continue;
      // What is not meant must not be in the way.
      field.setCustomValidity("");
      if (!field.validity.valid) field.value = "";
    }
    return some.checked;
  };
  return { element, isChosen };
}

function speedFields(now, inSpec) {
  const field = h("input", {
    type: "number",
    id: "throttle-rate",
    min: 1,
    max: MOST,
    step: 1,
    inputmode: "numeric",
    value: now ?? inSpec ?? "",
    autofocus: true,
    "aria-label": "most rows per second on each shard",
    on: { focus: () => field.select() },
  });
  const { element, isChosen } = pair({
    name: "throttle-speed",
    legend: "Speed on each shard",
    free: "no limit",
    bound: ["at most", h("span", {}, field, " rows/s")],
    fields: [field],
    isBound: now !== null,
  });
  const answer = () => {
    if (!isChosen()) return now === null ? nothing(null) : { body: { no_limit: true }, flag: " --no-limit", rate: null };
    const rate = field.valueAsNumber;
    if (rate === now) return nothing(rate);
    return { body: { rows_per_second: rate }, flag: ` --rows-per-second ${field.value || "N"}`, rate };
  };
  return { element, answer };
}

function timeFields(now, inSpec) {
  const [from, to] = /^(\d\d:\d\d)-(\d\d:\d\d)/.exec(now ?? inSpec ?? "")?.slice(1) ?? ["", ""];
  const field = (end, value) => h("input", { type: "time", id: `throttle-${end}`, value, "aria-label": `${end}, in UTC` });
  const fields = [field("from", from), field("to", to)];
  const { element, isChosen } = pair({
    name: "throttle-time",
    legend: "Time of day, in UTC",
    free: "at any time",
    bound: ["daily from", fields[0], h("span", {}, "to ", fields[1])],
    fields,
    isBound: now !== null,
  });
  const answer = () => {
    const daily = isChosen();
    if (!daily) return { daily, ...(now === null ? nothing() : { body: { always: true }, flag: " --always" }) };
    const [begins, ends] = fields.map(({ value }) => value);
    fields[1].setCustomValidity(begins !== "" && begins === ends ? "It ends when it begins: choose another time." : "");
    const window = `${begins || "HH:MM"}-${ends || "HH:MM"} UTC`;
    return { daily, ...(window === now ? nothing() : { body: { window }, flag: ` --window "${window}"` }) };
  };
  return { element, answer };
}

/** What is as it was. */
function nothing(rate) {
  return { body: {}, flag: "", rate };
}

/** What will come of it: how long the rest takes at least, wave by wave, by the shard that has most to walk. */
function outlook(parts, rate, daily) {
  if (rate === null) return "Without a limit batches follow each other at once. They still take no longer than batch.target says.";
  if (!(rate >= 1)) return "";
  const most = new Map();
  for (const part of parts) {
    const left = part.step && part.fraction < 1 ? Math.max(0, part.rows_total - part.rows_seen) : 0;
    most.set(part.wave, Math.max(most.get(part.wave) ?? 0, left));
  }
  const left = [...most.values()].reduce((sum, rows) => sum + rows, 0);
  if (left === 0) return "";
  return `What is left takes ${span(left / rate)} or more at this speed${daily ? ", in that time of day" : ""}.`;
}

/** What the question says, beside its fields. */
export function throttleMeaning(migration, parts) {
  const { id, throttle, status } = migration;
  return {
    title: `How fast may ${id} go?`,
    form: throttleForm(migration, parts),
    will: [
      `Now: ${limitsInWords(throttle)}${throttle.in_spec ? "" : ", as its spec says"}.`,
      status === "running"
        ? "Ranges that run go on at the new pace from their next batch. Nothing is handed out anew."
        : "It counts as soon as rows are walked.",
      "It holds until the migration has ended, and the history tells who said it.",
    ],
  };
}
