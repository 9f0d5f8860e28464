// Figures and times for people, written as the command line writes them.

const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** `1,234,567` */
export function count(number) {
  return GROUPED.format(Math.max(0, number ?? 0));
}

/** `1.2M`: where there is little room. */
export function short(number) {
  return SHORT.format(Math.max(0, number ?? 0));
}

/** `1 shard`, `2 shards` */
export function counted(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** `61 %`: rounded down, so that 100 % means all of it. */
export function percent(fraction) {
  return `${Math.floor(Math.min(1, Math.max(0, fraction)) * 100 + 1e-9)} %`;
}

const two = (number) => String(Math.floor(number)).padStart(2, "0");

/** `12s`, `3m 12s`, `2h 05m`, `3d 04h` */
export function span(seconds) {
  const all = Math.max(0, Math.round(seconds));
  if (all < 60) return `${all}s`;
  if (all < 3600) return `${Math.floor(all / 60)}m ${two(all % 60)}s`;
  if (all < 86400) return `${Math.floor(all / 3600)}h ${two((all % 3600) / 60)}m`;
  return `${Math.floor(all / 86400)}d ${two((all % 86400) / 3600)}h`;
}

/** `14:03:12`; with the day where it is another one than today. */
export function time(value) {
  const date = value instanceof Date ? value : new Date(value);
  if (Number.isNaN(date.getTime())) return "";
  const today = date.toDateString() === new Date().toDateString();
  return today ? CLOCK.format(date) : `${DAY.format(date)}, ${CLOCK.format(date)}`;
}

/** `rolling back` of `rolling_back`. */
export function words(text) {
  return String(text).replaceAll("_", " ");
}

/** The first few of many: `a, b, c and 97 more`. */
export function few(names, most = 6) {
  const shown = names.slice(0, most).join(", ");
  return names.length > most ? `${shown} and ${count(names.length - most)} more` : shown;
}

/** The text as a sentence: a capital at its beginning, a stop at its end. */
export function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;
}
