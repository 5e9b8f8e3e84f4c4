/** An event waits so long for the publication that explains it, in ms; mostly it comes right behind that. */
const settleMs = 5;
/** So long behind its publication an event is still explained by it, in ms. */
const explainedMs = 250;
/** They change how long the list lives, and leave its rows; own writes bring them too. */
const lifeEvents = new Set(["expire", "persist"]);

/**
 * The keyspace events of one list. Each of the gateways' own writes brings some, and its publication says how many: these
 * cancel out, whichever comes first, and cost neither a reading nor a timer. What remains a moment later was foreign.
 */
export class KeyspaceEvents {
  readonly #onForeign: () => void;
  /** How many events of each kind no publication explains; below 0: so many are explained ahead. */
  #pushes = 0;
  #lives = 0;
  #publishedAt = -Infinity;
  #settle: NodeJS.Timeout | null = null;

  constructor(onForeign: () => void) {
    this.#onForeign = onForeign;
  }

  take(event: string): void {
    // Retention trims what it pushes beyond its limit, in the same write.
    const isPush = event === "lpush" || event === "ltrim";
    if (!isPush && !lifeEvents.has(event)) {
      this.#onForeign();
      return;
    }
    this.#forgetMissing(performance.now());
    const unexplained = isPush ? ++this.#pushes : ++this.#lives;
    if (unexplained <= 0) return;
    this.#settle ??= setTimeout(() => {
      this.#settle = null;
      if (this.#pushes <= 0 && this.#lives <= 0) return;
      this.#pushes = this.#lives = 0;
      this.#onForeign();
    }, settleMs);
  }

  /** A publication has come that explains so many events of each kind. */
  explain(pushes: number, lives: number): void {
    const now = performance.now();
    this.#forgetMissing(now);
    this.#publishedAt = now;
    this.#pushes -= pushes;
    this.#lives -= lives;
  }

  close(): void {
    if (this.#settle !== null) clearTimeout(this.#settle);
  }

  /** What was explained ahead and did not come explains nothing that comes later. */
  #forgetMissing(now: number): void {
    if (now - this.#publishedAt <= explainedMs) return;
    this.#pushes = Math.max(0, this.#pushes);
    this.#lives = Math.max(0, this.#lives);
  }
}
