// The list of migrations: what needs a person first.

import { h, reconcile, setAttribute, setStyle, setText, show } from "./dom.js";
import { counted, percent } from "./format.js";
import { GROUPS, roughFraction, standing, toneOf, urgency } from "./model.js";

/** `{ element, update(live) }` */
export function list({ showMore }) {
  const groups = h("div", { class: "groups" });
  const more = h("button", { type: "button", class: "quiet", on: { click: showMore }, hidden: true }, "Show older ones");
  const element = h(
    "nav",
    { class: "list", "aria-labelledby": "list-heading" },
    h("h2", { id: "list-heading", class: "side-title" }, "Migrations"),
    groups,
    more,
  );
  const update = (live) => {
    const present = GROUPS.map((title, place) => ({
      title,
      migrations: (live.migrations ?? []).filter((migration) => urgency(migration) === place),
    })).filter((group) => group.migrations.length > 0);
    reconcile(groups, present, ({ title }) => title, makeGroup, (group, { title, migrations }) => {
      setText(group.firstChild, `${title} · ${migrations.length}`);
      reconcile(group.lastChild, migrations, ({ id }) => id, makeItem, (item, migration) => {
        drawItem(item, migration, live.followed?.id === migration.id);
      });
    });
    show(more, live.more && live.limit < 500);
  };
  return { element, update };
}

function makeGroup() {
  return h("section", { class: "group" }, h("h3", { class: "group-title" }), h("ul", { role: "list" }));
}

function makeItem({ id }) {
  const link = h(
    "a",
    { class: "item", href: `#${encodeURIComponent(id)}` },
    h("span", { class: "item-name", title: id }, id),
    h("span", { class: "item-about" }),
    h("span", { class: "badge" }),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "bar-fill" })),
  );
  return h("li", {}, link);
}

function drawItem(item, migration, chosen) {
  const link = item.firstChild;
  const [, about, badge, bar] = link.children;
  setAttribute(link, "aria-current", chosen ? "true" : null);
  setAttribute(link, "data-tone", toneOf(migration));
  setAttribute(badge, "data-tone", toneOf(migration));
  setText(badge, standing(migration));
  setText(about, aboutOf(migration));
  show(bar, migration.status === "running" || migration.status === "rolling_back" || migration.status === "paused");
  setStyle(bar.firstChild, "--whole", percent(roughFraction(migration)).replace(" ", ""));
}

function aboutOf(migration) {
  const words = [migration.kind, migration.engine, migration.cluster];
  if (migration.version > 1) words.push(`version ${migration.version}`);
  if (migration.waves > 1 && migration.status === "running") words.push(`wave ${migration.wave} of ${migration.waves}`);
  if (migration.waiting_for.length > 0) words.push(`waits for ${counted(migration.waiting_for.length, "other")}`);
  return words.join(" · ");
}
