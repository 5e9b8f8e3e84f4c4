import type { Redis } from "ioredis";

/** Replies of a server that reads and takes no writes, and what each means for whoever runs it. */
const refusals: Readonly<Record<string, string>> = {
  OOM: "Redis is full (OOM). It takes no messages until memory is freed or maxmemory is raised; reading and deleting work.",
  NOREPLICAS:
    "Redis has fewer replicas than min-replicas-to-write asks for (NOREPLICAS). It takes no writes until they are back; reading works.",
  MISCONF: "Redis cannot write to its disk (MISCONF). It takes no writes until it can; reading works.",
};

/** How often a server that refuses writes is asked whether it takes them again, in ms. */
const askMs = 1000;

/** Redis holds such a script to what a script of ours that writes may do; it reads and writes nothing. */
const probe = "#!lua\nreturn 1";

/**
 * Whether the servers take writes. A refusal is noticed where it comes back to a script, told once, and the servers are
 * asked from then on until they take writes again.
 */
export class RefusedWrites {
  readonly #primaries: () => readonly Redis[];
  /** Called with each new refusal, and with null when writes are taken again. */
  readonly #onChange: (refusal: string | null, cause: unknown) => void;
  #refusal: string | null = null;
  #asking: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(primaries: () => readonly Redis[], onChange: (refusal: string | null, cause: unknown) => void) {
    this.#primaries = primaries;
    this.#onChange = onChange;
  }

  /** A script's failure, whatever it is. */
  see(error: unknown): void {
    const refusal = refusalOf(error);
    if (refusal !== null) this.#tell(refusal, error);
  }

  /** Asks all servers now. The refusal that holds, or null. */
  async check(): Promise<string | null> {
    const answers = await Promise.allSettled(this.#primaries().map((redis) => redis.eval(probe, 0)));
    const causes = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason as unknown] : []));
    const cause = causes.find((one) => refusalOf(one) !== null);
    // One that gave no answer, or may not be asked, says nothing about writes.
    if (cause !== undefined) this.see(cause);
    else if (causes.length === 0) this.#tell(null, null);
    return this.#refusal;
  }

  close(): void {
    this.#closed = true;
    if (this.#asking) clearTimeout(this.#asking);
  }

  #tell(refusal: string | null, cause: unknown): void {
    if (this.#closed) return;
    if (refusal !== this.#refusal) this.#onChange(refusal, cause);
    this.#refusal = refusal;
    if (refusal !== null && this.#asking === null) this.#askLater();
  }

  #askLater(): void {
    this.#asking = setTimeout(() => {
      void this.check().then((refusal) => {
        this.#asking = null;
        if (refusal !== null && !this.#closed) this.#askLater();
      });
    }, askMs);
    this.#asking.unref();
  }
}

/** null: it is another failure. */
export function refusalOf(error: unknown): string | null {
  if (!(error instanceof Error) || error.name !== "ReplyError") return null;
  const [code = ""] = error.message.split(" ", 1);
  return Object.hasOwn(refusals, code) ? (refusals[code] ?? null) : null;
}
