import { ParleyError } from "../errors.ts";
import type { LimitName } from "../limit-names.ts";

// What a subject may cost. Each limit has a name: see limit-names.ts.

/** Counted over all gateways, in Redis. null: no limit. */
export interface QuotaLimits {
  /** Calls of a model that a subject may ask for within any 60 seconds. */
  readonly sendsPerMinute: number | null;
  /** Replies of a subject that may be going or waiting at a time. */
  readonly runs: number | null;
  /** Tokens that a subject's calls may have cost since midnight (UTC) when it asks for one more. */
  readonly tokensPerDay: number | null;
}

/** Why there is no room for one more. */
export interface Refusal {
  readonly limit: LimitName;
  readonly retryAfterSeconds: number;
}

/**
 * The port to the counters of these limits. The store's begin() counts a turn, in the same write where that is possible; all
 * other counting is here. Only admit() and hasRoom() throw.
 */
export interface Quotas {
  /**
   * Counts a call of a model that is no turn, until release().
   * @throws {ParleyError} RATE_LIMITED; STORE_UNAVAILABLE
   */
  admit(owner: string, id: string): Promise<void>;
  /** Whether one more call, of so many tokens, would keep every limit. Counts nothing. Rejects with STORE_UNAVAILABLE. */
  hasRoom(owner: string, tokens: number): Promise<boolean>;
  /** This process looks after the run: it counts as going until release(), or until the process is silent for a lease. */
  hold(owner: string, runId: string): void;
  release(owner: string, runId: string): void;
  /** The run waits for somebody: it counts as going for so long, whatever becomes of this process. */
  keep(owner: string, runId: string, ms: number): void;
  /** The run waits no more: it has ended, or this process looks after it again. */
  drop(owner: string, runId: string, goesOn: boolean): void;
  /** What a call has cost, counted once for each id. `tokens` is called only where there is a limit. */
  spend(owner: string, id: string, tokens: () => number): void;
}

export const noQuotas: Quotas = {
  admit: () => Promise.resolve(),
  hasRoom: () => Promise.resolve(true),
  hold: () => undefined,
  release: () => undefined,
  keep: () => undefined,
  drop: () => undefined,
  spend: () => undefined,
};

const reasons: Partial<Record<LimitName, string>> = {
  sendsPerMinute: "You have sent as many messages as you may within a minute.",
  runs: "As many of your replies are being made, or wait, as may be at a time.",
  tokensPerDay: "You have used the tokens that you may use in a day.",
};

/** Nothing of what was asked for was done. A retry of what was done before is not refused. */
export function rateLimited({ limit, retryAfterSeconds }: Refusal): ParleyError {
  const reason = reasons[limit] ?? "There were too many requests from here.";
  const message = `${reason} Try again in ${retryAfterSeconds} seconds.`;
  return new ParleyError("RATE_LIMITED", message, { limit, retryAfterSeconds });
}

/** There is as much as may be, and waiting does not change that. `message` says what does. */
export function limitReached(limit: LimitName, message: string): ParleyError {
  return new ParleyError("LIMIT_REACHED", message, { limit });
}

/** What a text costs where nobody has counted: about four characters a token, as English has it. */
export function estimatedTokens(characters: number): number {
  return Math.ceil(characters / 4);
}
