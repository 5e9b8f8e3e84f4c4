/** A row by what lies in Redis. Two that are alike and were written apart are two. */
export interface CursorRow {
  readonly raw: string;
}

/** A cursor as a reader holds it: when and where it was given, and all rows that the reader had by then. */
export interface HeldCursor {
  readonly text: string;
  readonly epoch: number;
  readonly position: number;
  /** null: before the first. */
  readonly row: CursorRow | null;
  readonly seen: ReadonlyMap<number, string>;
}

interface Cut {
  readonly epoch: number;
  readonly position: number;
  readonly rows: ReadonlySet<CursorRow>;
}

/**
 * One history and what is done to it, in plain data: rows are objects, and a cursor lives as long as its row lies where it
 * lay. It knows nothing of generations and marks.
 */
export class CursorModel {
  rows: readonly CursorRow[] = [];
  /** Position of the first row. */
  base = 0;
  epoch = 0;
  readonly #most: number;
  /** The row below the base, where retention trimmed one. */
  #trimmed: CursorRow | null = null;
  /** Rewinds since the history began, was cleared or lost rows, and when that was. */
  #cuts: readonly Cut[] = [];
  #since = 0;
  /** Counts on also where Redis goes back. */
  #epochs = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get end(): number {
    return this.base + this.rows.length;
  }

  get tip(): CursorRow | null {
    return this.rows.at(-1) ?? null;
  }

  append(...rows: readonly CursorRow[]): void {
    const all = [...this.rows, ...rows];
    const excess = Math.max(0, all.length - this.#most);
    this.#trimmed = all[excess - 1] ?? this.#trimmed;
    this.rows = all.slice(excess);
    this.base += excess;
  }

  rewind(position: number): void {
    const kept = this.rows.slice(0, position - this.base);
    this.epoch = ++this.#epochs;
    this.#cuts = [...this.#cuts, { epoch: this.epoch, position, rows: new Set(this.rows.slice(kept.length)) }];
    this.rows = kept;
  }

  /** Cleared, or found to have lost rows: these are left. */
  beginAnew(rows: readonly CursorRow[]): void {
    this.epoch = this.#since = ++this.#epochs;
    this.#cuts = [];
    this.#trimmed = null;
    this.rows = rows;
    this.base = 0;
  }

  /** What a replica has that is behind. Gives what goes back to it. */
  replica(): () => void {
    const { rows, base, epoch } = this;
    const [trimmed, cuts, since] = [this.#trimmed, this.#cuts, this.#since];
    return () => {
      Object.assign(this, { rows, base, epoch });
      [this.#trimmed, this.#cuts, this.#since] = [trimmed, cuts, since];
    };
  }

  isKnown(epoch: number): boolean {
    return epoch === this.#since || this.#cuts.some((cut) => cut.epoch === epoch);
  }

  holds({ epoch, position, row }: HeldCursor): boolean {
    if (!this.isKnown(epoch)) return false;
    if (row === null) return this.base === 0;
    return (position === this.base - 1 ? this.#trimmed : this.rows[position - this.base]) === row;
  }

  /** Where a reader goes on whose cursor does not hold: 0 where nothing of what it has is known to stand. */
  keptOf({ epoch, row }: HeldCursor): number {
    const later = this.#cuts.filter((cut) => cut.epoch > epoch);
    if (!this.isKnown(epoch) || row === null || !later.some((cut) => cut.rows.has(row))) return 0;
    const kept = Math.min(...later.map((cut) => cut.position));
    return kept < this.base ? 0 : kept;
  }
}
