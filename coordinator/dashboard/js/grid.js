// One cell for each shard. State is told by colour, by a mark and by shape; how far it is, by the height of its fill.
// The keyboard walks the cells with the arrow keys; hovering or focusing tells everything about a shard.

import { h, reconcile, renew, setAttribute, setStyle, setText, show, spoken } from "./dom.js";
import { count, counted, percent, span } from "./format.js";
import { STATES, stateOf, waves } from "./model.js";

/** Up to so many shards the cells are this large. */
const SIZES = [[24, "roomy"], [400, "medium"], [3000, "small"], [Infinity, "tiny"]];
/** From so many shards on there is a field to find one. */
const MANY = 25;

/** `{ element, update(migration, parts) }` */
export function grid() {
  const view = { migration: null, parts: new Map(), cells: new Map(), only: null, wanted: "", focused: null };
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Show only shards in a state" });
  const search = h("input", { type: "search", placeholder: "Find a shard", "aria-label": "Find a shard", class: "find" });
  const field = h("div", { class: "grid-field" });
  const card = h("div", { class: "card-of-shard", role: "tooltip", id: "shard-card", hidden: true });
  const sum = h("span", { class: "soft" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "shards-heading" },
    h("div", { class: "panel-head" }, h("h2", { id: "shards-heading" }, "Shards"), sum, search),
    legend,
    field,
    card,
  );
  search.addEventListener("input", () => {
    view.wanted = search.value.trim().toLowerCase();
    dim(view);
  });
  listen(view, field, card);

  const update = (migration, parts) => {
    Object.assign(view, { migration, parts: new Map(parts.map((part) => [part.shard, part])) });
    setAttribute(element, "data-size", SIZES.find(([most]) => parts.length <= most)[1]);
    setText(sum, counted(parts.length, "shard"));
    show(search, parts.length >= MANY);
    drawLegend(view, legend);
    drawCells(view, field, parts);
    dim(view);
    if (view.focused) fillCard(view, card);
  };
  return { element, update };
}

function drawLegend(view, legend) {
  const counts = new Map();
  for (const part of view.parts.values()) {
    const state = stateOf(part, view.migration);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const present = Object.keys(STATES).filter((state) => counts.has(state));
  if (!counts.has(view.only)) view.only = null;
  const create = (state) => {
    const press = () => {
      view.only = view.only === state ? null : state;
      drawLegend(view, legend);
      dim(view);
    };
    const swatch = h("span", { class: "swatch", data: { state, tone: STATES[state].tone }, "aria-hidden": "true" }, STATES[state].mark);
    return h("button", { type: "button", class: "key", on: { click: press } }, swatch, h("span", {}, STATES[state].text), h("b"));
  };
  reconcile(legend, present, (state) => state, create, (key, state) => {
    setText(key.lastChild, count(counts.get(state)));
    setAttribute(key, "aria-pressed", view.only === state);
  });
}

/** The shards of each wave together, where there are several. */
function drawCells(view, field, parts) {
  const groups = view.migration.waves > 1 ? waves(view.migration, parts) : [{ number: 1, place: "now" }];
  const create = ({ number }) => {
    const title = h("h3", { class: "wave-title" });
    const cells = h("div", { class: "cells", role: "listbox", "aria-label": `Shards of wave ${number}`, "aria-describedby": "shards-heading" });
    return h("div", { class: "wave-of-shards" }, title, cells);
  };
  reconcile(field, groups, ({ number }) => number, create, (group, wave) => {
    const [title, cells] = group.children;
    show(title, groups.length > 1);
    setText(title, `Wave ${wave.number}: ${wave.done} of ${counted(wave.shards, "shard")} done`);
    setAttribute(group, "data-place", wave.place);
    const own = groups.length > 1 ? parts.filter((part) => part.wave === wave.number) : parts;
    reconcile(cells, own, (part) => part.shard, (part) => makeCell(view, part), (cell, part) => drawCell(view, cell, part));
  });
  for (const shard of view.cells.keys()) if (!view.parts.has(shard)) view.cells.delete(shard);
  const first = field.querySelector(".cell[tabindex='0']") ?? field.querySelector(".cell");
  if (first) setAttribute(first, "tabindex", "0");
}

function makeCell(view, part) {
  const mark = h("span", { class: "mark", "aria-hidden": "true" });
  const label = h("span", { class: "cell-name" }, part.shard);
  const figures = h("span", { class: "cell-figures" });
  const cell = h("div", { class: "cell", role: "option", tabindex: "-1", data: { shard: part.shard } }, mark, label, figures);
  view.cells.set(part.shard, cell);
  return cell;
}

function drawCell(view, cell, part) {
  const state = stateOf(part, view.migration);
  const active = part.workers.length > 0;
  const whole = state === "backfill" ? part.fraction : state === "waiting" ? 0 : 1;
  // What is as it was costs nothing: thousands of cells are drawn several times a second.
  const drawn = `${state} ${active} ${Math.floor(whole * 200)} ${Math.round(part.rows_per_second)} ${part.rows_done}`;
  if (cell.drawn === drawn) return;
  cell.drawn = drawn;
  setAttribute(cell, "data-state", state);
  setAttribute(cell, "data-tone", STATES[state].tone);
  setAttribute(cell, "data-active", active);
  setStyle(cell, "--whole", `${(whole * 100).toFixed(1)}%`);
  setText(cell.firstChild, STATES[state].mark);
  setText(cell.lastChild, figuresOf(part, state));
  setAttribute(cell, "aria-label", `${part.shard}: ${STATES[state].text}, ${figuresOf(part, state)}`);
}

function figuresOf(part, state) {
  if (state === "failed") return part.error.code;
  if (state === "trouble") return part.trouble.code;
  if (state === "backfill") return `${percent(part.fraction)}, ${count(part.rows_per_second)} rows/s`;
  return part.rows_total > 0 ? `${STATES[state].text}, ${count(part.rows_done)} rows` : STATES[state].text;
}

/** Cells that were not asked for step back. */
function dim(view) {
  for (const [shard, cell] of view.cells) {
    const part = view.parts.get(shard);
    if (!part) continue;
    const other = view.only !== null && stateOf(part, view.migration) !== view.only;
    const named = view.wanted === "" || shard.toLowerCase().includes(view.wanted);
    setAttribute(cell, "data-dim", other || !named);
  }
}

function listen(view, field, card) {
  const open = (event) => {
    const cell = event.target.closest?.(".cell");
    if (!cell) return;
    view.focused = cell.dataset.shard;
    fillCard(view, card);
    placeCard(card, cell);
    setAttribute(cell, "aria-describedby", card.id);
  };
  const close = () => {
    view.focused = null;
    show(card, false);
  };
  field.addEventListener("pointerover", open);
  field.addEventListener("pointerleave", close);
  field.addEventListener("focusin", open);
  field.addEventListener("focusout", close);
  addEventListener("scroll", close, { passive: true });
  field.addEventListener("click", (event) => event.target.closest(".cell")?.focus());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return close();
    const cell = event.target.closest(".cell");
    const next = cell && neighbour(field, cell, event.key);
    if (!next) return;
    event.preventDefault();
    setAttribute(cell, "tabindex", "-1");
    setAttribute(next, "tabindex", "0");
    next.focus();
  });
}

/** The cell that an arrow key leads to. */
function neighbour(field, cell, key) {
  const all = [...field.querySelectorAll(".cell")];
  const at = all.indexOf(cell);
  switch (key) {
    case "ArrowRight":
      return all[at + 1];
    case "ArrowLeft":
      return all[at - 1];
    case "Home":
      return all[0];
    case "End":
      return all.at(-1);
    case "ArrowDown":
      return all.slice(at).find((other) => other.offsetTop > cell.offsetTop && other.offsetLeft >= cell.offsetLeft);
    case "ArrowUp":
      return all.slice(0, at).findLast((other) => other.offsetTop < cell.offsetTop && other.offsetLeft <= cell.offsetLeft);
    default:
      return undefined;
  }
}

/** Everything about the shard under the pointer or the focus. */
function fillCard(view, card) {
  const part = view.parts.get(view.focused);
  if (!part) return show(card, false);
  const state = stateOf(part, view.migration);
  const failure = part.error ?? part.trouble;
  renew(card, JSON.stringify([part, state]), () => [
    h(
      "div",
      { class: "card-head" },
      h("span", { class: "swatch", data: { state, tone: STATES[state].tone } }, STATES[state].mark),
      h("strong", {}, part.shard),
      h("span", { class: "soft" }, STATES[state].text),
    ),
    h("dl", { class: "pairs" }, ...pairs(part, view.migration).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    failure && h("p", { class: "card-failure", data: { tone: part.error ? "bad" : "warn" } }, h("code", {}, failure.code), " ", spoken(failure.message)),
    failure && h("p", { class: "soft" }, spoken(failure.next)),
  ]);
  show(card, true);
}

function pairs(part, migration) {
  const all = [];
  const add = (name, value) => value !== null && all.push([name, value]);
  add("wave", migration.waves > 1 ? `${part.wave} of ${migration.waves}` : null);
  if (migration.kind === "data") {
    add("walked", percent(part.fraction));
    add("changed", `${count(part.rows_done)} of about ${count(part.rows_total)} rows`);
    add("speed", part.rows_per_second > 0 ? `${count(part.rows_per_second)} rows/s, batches of ${count(part.batch_size)}` : null);
    add("ranges", part.ranges > 0 ? `${count(part.ranges_done)} of ${count(part.ranges)} done, pass ${part.pass}` : null);
    add("left", part.eta_seconds === null ? null : span(part.eta_seconds));
    add("restored", part.rows_restored > 0 ? `${counted(part.rows_restored, "row")}, ${counted(part.conflicts, "conflict")}` : null);
    add("set aside", part.quarantined + part.discarded > 0 ? counted(part.quarantined + part.discarded, "row") : null);
  }
  add("verified", part.verified ? "yes" : "no");
  add("workers", part.workers.length > 0 ? part.workers.join(", ") : "none now");
  return all;
}

/** Beside the cell, inside of the window. */
function placeCard(card, cell) {
  const [box, own] = [cell.getBoundingClientRect(), card.getBoundingClientRect()];
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const below = box.bottom + 8 + own.height < innerHeight;
  setStyle(card, "left", `${left}px`);
  setStyle(card, "top", `${below ? box.bottom + 8 : Math.max(8, box.top - own.height - 8)}px`);
}
