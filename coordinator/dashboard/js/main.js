// The page: what is known goes into the views, what a person does goes to the coordinator.

import { documentation } from "./api.js";
import { detail } from "./detail.js";
import { confirmation } from "./dialog.js";
import { byId, setAttribute, setText, show } from "./dom.js";
import { fleet } from "./fleet.js";
import { sentence, time } from "./format.js";
import { list } from "./list.js";
import { Live } from "./live.js";
import { standing, urgency } from "./model.js";
import { LABELS } from "./moves.js";
import { signIn } from "./signin.js";
import { welcome } from "./welcome.js";

/** Drawings per second are bounded, however much the stream says. */
const BETWEEN = 200;

const narrow = matchMedia("(max-width: 780px)");
const live = new Live(() => draw());
const dialog = confirmation();
const signin = signIn(() => live.begin());
const views = {
  list: list({ showMore: () => live.showMore() }),
  fleet: fleet(),
  detail: detail({ act: (verb, id, meaning) => dialog.ask(meaning, (body) => perform(verb, id, body)) }),
  welcome: welcome(),
};

async function perform(verb, id, body) {
  const { changed, migration } = await live.act(verb, id, body);
  say(changed ? `${LABELS[verb]}: ${id} is ${standing(migration)}.` : `${id} was so already.`);
}

/** A short message, also for those who do not see it. */
function say(text) {
  const note = byId("note");
  setText(note, text);
  setAttribute(note, "data-shown", "true");
  clearTimeout(say.waits);
  say.waits = setTimeout(() => setAttribute(note, "data-shown", null), 6000);
}

/** Draws soon, and not more often than can be seen. */
function draw() {
  if (draw.waits) return;
  const since = performance.now() - (draw.at ?? -BETWEEN);
  draw.waits = setTimeout(() => {
    draw.waits = null;
    draw.at = performance.now();
    drawNow();
  }, Math.max(0, BETWEEN - since));
}

function drawNow() {
  if (live.stranger) signin.ask();
  signin.update(live.me);
  choose();
  const none = live.migrations?.length === 0;
  const followed = live.followed;
  show(byId("loading"), live.migrations === null && live.lost === null);
  setAttribute(document.body, "data-view", none ? "welcome" : followed ? "detail" : "list");
  setAttribute(document.body, "data-stale", live.lost !== null);
  show(views.welcome.element, none && !followed);
  show(views.detail.element, followed !== null);
  views.list.update(live);
  views.fleet.update(live.fleet);
  views.welcome.update(live.fleet);
  if (followed) views.detail.update(followed, live.lost !== null, live.me);
  drawConnection();
  const migration = followed?.migration;
  document.title = migration ? `${standing(migration)}: ${migration.id} – Shardlift` : "Shardlift";
  announce(migration);
}

/** Which migration is looked at: that of the address; on a wide page otherwise the most urgent one. */
function choose() {
  const named = namedInAddress();
  if (named !== "") return live.follow(named);
  if (narrow.matches || !live.migrations?.length) return live.follow(null);
  if (live.followed) return undefined;
  const [first] = [...live.migrations].sort((one, other) => urgency(one) - urgency(other));
  return live.follow(first.id);
}

/** The id behind `#`; an address that somebody has damaged names none. */
function namedInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function drawConnection() {
  const { lost, followed } = live;
  const pill = byId("connection");
  const how = lost ? "lost" : followed && !followed.streams ? "polling" : "live";
  setAttribute(pill, "data-how", how);
  setText(pill.lastElementChild, { lost: "connection lost", polling: "connected, asking", live: "live" }[how]);
  const banner = byId("lost");
  show(banner, lost !== null);
  if (lost === null) return;
  const old = lost.since ? `what you see is as of ${time(lost.since)}` : "nothing is known yet";
  const told = [lost.problem.message, old, lost.problem.next, "this page goes on trying"];
  setText(byId("lost-what"), told.filter(Boolean).map(sentence).join(" "));
}

/** Tells those who do not see the page when the standing changes. */
function announce(migration) {
  const key = migration && `${migration.id} ${standing(migration)}`;
  if (key && announce.last?.id === migration.id && announce.last.key !== key) say(`${migration.id}: ${standing(migration)}.`);
  announce.last = migration && { id: migration.id, key };
}

byId("side").append(views.list.element, views.fleet.element);
byId("main").append(views.welcome.element, views.detail.element);
byId("documentation").href = documentation();
byId("skip").addEventListener("click", (event) => {
  // The address names migrations, so the link itself must not be followed.
  event.preventDefault();
  byId("main").focus();
});
byId("again").addEventListener("click", () => live.now());
addEventListener("hashchange", () => {
  // A question about one migration must not be answered while another one is seen.
  dialog.element.close();
  drawNow();
  scrollTo(0, 0);
});
narrow.addEventListener("change", draw);
live.start();
draw();
