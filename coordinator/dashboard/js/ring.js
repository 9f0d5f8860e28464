// What was seen of a run while this page was open. Bounded: it never holds more than its size.

/** The newest samples, oldest first, at most `size`. */
export class Ring {
  constructor(size) {
    this.size = size;
    this.samples = [];
  }

  /** Adds a sample `{ at, … }`; one within `apart` milliseconds of the newest replaces it. */
  push(sample, apart = 0) {
    const newest = this.samples.at(-1);
    const before = this.samples.at(-2);
    if (newest && before && newest.at - before.at < apart) this.samples.pop();
    this.samples.push(sample);
    if (this.samples.length > this.size) this.thin();
  }

  /** Keeps every second one of the older half: a long run stays whole, with less detail where it is old. */
  thin() {
    const half = this.samples.length >> 1;
    this.samples = this.samples.filter((_, place) => place >= half || place % 2 === 0);
  }
}
