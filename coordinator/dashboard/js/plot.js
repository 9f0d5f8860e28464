// One small plot: a line over time with its newest value, drawn as inline SVG. Hovering or moving with the arrow keys
// reads a value off.

import { h, s, setAttribute, setText } from "./dom.js";
import { span, time } from "./format.js";

const [WIDTH, HEIGHT, TOP] = [320, 84, 4];

/** `{ element, update }`. `value` takes a number out of a sample, `text` writes it, `unit` follows it. */
export function plot({ title, unit, value, text, tone }) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const rule = s("line", { class: "rule", y1: 0, y2: HEIGHT });
  const dot = s("circle", { class: "dot", r: 3.5 });
  const reading = s("g", { class: "reading", visibility: "hidden" }, rule, dot);
  const canvas = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: "0" },
    ...[TOP, (HEIGHT + TOP) / 2].map((y) => s("line", { class: "guide", x1: 0, x2: WIDTH, y1: y, y2: y })),
    area,
    line,
    reading,
  );
  const now = h("output", { class: "plot-now" });
  const top = h("span", { class: "plot-top" });
  const from = h("span");
  const to = h("span");
  const element = h(
    "figure",
    { class: "plot", data: { tone } },
    h("figcaption", {}, h("span", { class: "plot-title" }, title), now),
    h("div", { class: "plot-body" }, canvas, top),
    h("div", { class: "plot-axis" }, from, to),
  );
  const view = { samples: [], chosen: null };

  const place = (at) => {
    const { first, last, most } = view;
    const sample = view.samples[at];
    const x = last > first ? ((sample.at - first) / (last - first)) * WIDTH : WIDTH;
    return [x, HEIGHT - (value(sample) / most) * (HEIGHT - TOP)];
  };
  const draw = () => {
    const read = view.chosen === null ? null : view.samples[view.chosen];
    const shown = read ?? view.samples.at(-1);
    setText(now, shown ? `${text(value(shown))} ${unit}${read ? ` at ${time(new Date(read.at))}` : ""}` : "–");
    setAttribute(reading, "visibility", read ? "visible" : "hidden");
    if (read) {
      const [x, y] = place(view.chosen);
      for (const [node, pairs] of [[rule, { x1: x, x2: x }], [dot, { cx: x, cy: y }]]) {
        for (const [name, number] of Object.entries(pairs)) setAttribute(node, name, number);
      }
    }
  };
  const choose = (at) => {
    view.chosen = at === null || view.samples.length === 0 ? null : Math.min(view.samples.length - 1, Math.max(0, at));
    draw();
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const wanted = view.first + ((event.clientX - box.left) / box.width) * (view.last - view.first);
    choose(nearest(view.samples, wanted));
  });
  canvas.addEventListener("pointerleave", () => choose(null));
  canvas.addEventListener("blur", () => choose(null));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose((view.chosen ?? view.samples.length - 1) + step);
  });

  const update = (samples) => {
    view.samples = samples;
    view.first = samples[0]?.at ?? 0;
    view.last = samples.at(-1)?.at ?? 0;
    view.most = ceiling(Math.max(0, ...samples.map(value)));
    const points = samples.map((_, at) => place(at).map((number) => number.toFixed(1)).join(" "));
    const drawn = points.length > 1;
    setAttribute(line, "d", drawn ? `M${points.join("L")}` : null);
    setAttribute(area, "d", drawn ? `M${points.join("L")}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z` : null);
    setText(top, drawn ? text(view.most) : "");
    setText(from, drawn ? `${span((view.last - view.first) / 1000)} ago` : "collects from now on");
    setText(to, drawn ? "now" : "");
    const newest = samples.at(-1);
    const label = newest ? `${title}: ${text(value(newest))} ${unit} now, at most ${text(view.most)}` : `${title}: no values yet`;
    setAttribute(canvas, "aria-label", label);
    if (view.chosen !== null) view.chosen = Math.min(view.chosen, samples.length - 1);
    draw();
  };
  return { element, update };
}

/** A round number that is at least this. */
function ceiling(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= most);
}

function nearest(samples, at) {
  let best = 0;
  samples.forEach((sample, place) => {
    if (Math.abs(sample.at - at) < Math.abs(samples[best].at - at)) best = place;
  });
  return best;
}
