/** How many there are of each key at a time, and that it is not more than `most`. A key without any takes no memory. */
export class Counts {
  readonly #most: number | null;
  readonly #counts = new Map<string, number>();

  /** null: no limit. */
  constructor(most: number | null) {
    this.#most = most;
  }

  /** Takes a place, and gives what to call when it is free again (safe to call twice); null: there is none left. */
  take(key: string | null): (() => void) | null {
    if (key === null || this.#most === null) return nothing;
    const count = this.#counts.get(key) ?? 0;
    if (count >= this.#most) return null;
    this.#counts.set(key, count + 1);
    let taken = true;
    return () => {
      if (!taken) return;
      taken = false;
      const left = (this.#counts.get(key) ?? 1) - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
    };
  }
}

const nothing = () => undefined;
