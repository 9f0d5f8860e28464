// What this page knows, and how it keeps it true: the list and the fleet are asked for again and again, the migration
// that is looked at is followed by server-sent events. Where those do not come through, it is asked for as well.

import { act, listMigrations, readEvents, readFleet, readMe, readMigration, stream } from "./api.js";
import { rests, summary } from "./model.js";
import { Ring } from "./ring.js";

/** Milliseconds between two questions. A page that nobody looks at asks seldom. */
const EVERY = { list: 2_000, fleet: 5_000, followed: 1_000, hidden: 20_000, stream: 3_000 };
/** After so many milliseconds without a word a stream is doubted. */
const DOUBT = 12_000;
/** Events that are kept. */
const MOST_EVENTS = 400;
/** Samples of a plot, and how far apart they are at least, in milliseconds. */
const [MOST_SAMPLES, APART] = [600, 900];

/** The state of the page. `changed` is called whenever something of it is different. */
export class Live {
  constructor(changed) {
    this.changed = changed;
    this.migrations = null;
    this.limit = 100;
    this.more = false;
    this.fleet = null;
    /** Who looks at the page; `null`: not known yet. */
    this.me = null;
    /** The coordinator wants to know who it is. */
    this.stranger = false;
    this.followed = null;
    /** Why nothing new is heard, and since when. */
    this.lost = null;
    this.asOf = null;
    this.timers = {};
  }

  /** Begins. */
  start() {
    this.repeat("list", EVERY.list, () => this.readList());
    this.repeat("fleet", EVERY.fleet, () => this.readFleet());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
  }

  /** Asks for everything at once, instead of waiting for the next turn. */
  now() {
    for (const timer of Object.values(this.timers)) timer.again();
  }

  /** Does something again and again, each time after the former has ended. */
  repeat(name, every, ask) {
    let [waits, busy] = [null, false];
    const turn = async () => {
      clearTimeout(waits);
      // A stranger is told nothing: it begins again when somebody has signed in.
      if (busy || this.stranger) return;
      busy = true;
      await ask().then(() => this.heard(), (problem) => this.failed(problem));
      busy = false;
      if (this.timers[name]?.again === turn) waits = setTimeout(turn, document.hidden ? EVERY.hidden : every);
    };
    this.stop(name);
    this.timers[name] = { again: turn, end: () => clearTimeout(waits) };
    turn();
  }

  stop(name) {
    this.timers[name]?.end();
    delete this.timers[name];
  }

  async readList() {
    const { migrations, next } = await listMigrations(this.limit);
    this.migrations = migrations;
    this.more = next !== null;
    this.followed?.compare(migrations.find((migration) => migration.id === this.followed.id));
  }

  async readFleet() {
    this.me ??= await readMe();
    this.fleet = await readFleet();
  }

  /** Somebody else looks at the page: what was seen before is none of their business. */
  begin() {
    Object.assign(this, { me: null, stranger: false, migrations: null, fleet: null });
    this.unfollow();
    this.now();
    this.changed();
  }

  /** Shows older ones as well. */
  showMore() {
    this.limit = 500;
    this.timers.list?.again();
  }

  heard() {
    this.lost = null;
    this.asOf = new Date();
    this.changed();
  }

  failed(problem) {
    if (problem.code === "access.unauthenticated") this.stranger = true;
    // A refusal that passes by itself, or no answer at all: what is shown grows old.
    if (problem.retryable) this.lost ??= { since: this.asOf };
    if (this.lost) this.lost.problem = problem;
    this.changed();
  }

  /** Follows this migration from now on; `null`: none. */
  follow(id) {
    if (this.followed?.id === id) return;
    this.unfollow();
    this.followed = id === null ? null : new Followed(id, this);
    this.followed?.start();
    this.changed();
  }

  unfollow() {
    this.followed?.end();
    this.followed = null;
  }

  /** Asks for a verb, then shows at once what came of it. */
  async act(verb, id, body) {
    const answer = await act(verb, id, body);
    if (this.followed?.id === id) this.followed.status(answer.migration);
    this.timers.list?.again();
    return answer;
  }
}

/** One migration, followed. */
class Followed {
  constructor(id, live) {
    this.id = id;
    this.live = live;
    this.migration = null;
    this.problem = null;
    this.parts = new Map();
    this.events = [];
    this.last = 0;
    this.samples = new Ring(MOST_SAMPLES);
    /** Whether the stream is open; otherwise it is asked for. */
    this.streams = false;
    this.over = false;
  }

  start() {
    this.live.repeat("followed", EVERY.followed, () => this.poll());
  }

  end() {
    this.over = true;
    this.source?.close();
    clearTimeout(this.waits);
    this.live.stop("followed");
  }

  /** Everything at once. It ends when the stream tells the same. */
  async poll() {
    if (this.streams) return;
    try {
      const [migration, events] = await Promise.all([
        readMigration(this.id),
        readEvents(this.id, this.last > 0 ? { after: this.last, limit: 200 } : { limit: 200 }),
      ]);
      if (this.over) return;
      this.problem = null;
      this.shards(migration);
      this.history(events.events);
      this.status(migration);
      this.listen();
    } catch (problem) {
      this.problem = problem;
      throw problem;
    }
  }

  /** Opens the stream behind the last event known. */
  listen() {
    if (this.source || this.waits || this.over) return;
    this.source = stream(this.id, this.last, {
      open: () => {
        this.streams = true;
        this.toldAt = Date.now();
        this.live.heard();
      },
      lost: () => this.silent(),
      history: (event) => this.history([event]),
      shards: (some) => this.shards(some),
      status: (migration) => {
        this.toldAt = Date.now();
        this.status(migration);
        this.live.heard();
      },
      problem: (problem) => this.live.failed(problem),
    });
  }

  /** The stream broke. Until it is back, its migration is asked for. */
  silent() {
    const had = this.streams;
    this.streams = false;
    this.source = null;
    this.waits = setTimeout(() => {
      this.waits = null;
    }, EVERY.stream);
    if (had) this.live.timers.followed?.again();
    this.live.changed();
  }

  /** A connection may be dead without a sign of it. The list knows better then. */
  compare(listed) {
    if (!listed || !this.streams || Date.now() - this.toldAt < DOUBT) return;
    const differs = ["version", "status", "phase", "wave", "rows_done"].some((key) => listed[key] !== this.migration[key]);
    if (differs) this.silence();
  }

  silence() {
    this.source?.close();
    this.source = null;
    this.streams = false;
    this.live.timers.followed?.again();
  }

  status(migration) {
    if (this.migration && this.migration.version !== migration.version) this.begunAnew();
    this.migration = migration;
    this.sample();
    this.live.changed();
  }

  /** The same id was submitted as its next version: its shards are others. */
  begunAnew() {
    this.parts.clear();
    this.samples = new Ring(MOST_SAMPLES);
    this.silence();
  }

  shards({ shards }) {
    for (const part of shards) this.parts.set(part.shard, part);
  }

  history(events) {
    for (const event of events) {
      if (event.sequence <= this.last) continue;
      this.last = event.sequence;
      this.events.push(event);
    }
    if (this.events.length > MOST_EVENTS) this.events.splice(0, this.events.length - MOST_EVENTS);
  }

  sample() {
    const sum = summary(this.migration, [...this.parts.values()]);
    if (rests(this.migration) && this.samples.samples.length === 0) return;
    const { rate, batch, remaining, fraction } = sum;
    const newest = this.samples.samples.at(-1);
    if (rests(this.migration) && newest && newest.rate === rate && newest.remaining === remaining) return;
    this.samples.push({ at: Date.now(), rate, batch, remaining, fraction }, APART);
  }
}
