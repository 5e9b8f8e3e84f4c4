import { Cluster } from "ioredis";
import { rateLimited, type QuotaLimits, type Quotas, type Refusal } from "../../conversation/ports/quotas.ts";
import type { Client } from "../client/connection.ts";
import { guarded } from "../client/failure.ts";
import { quotaKeys } from "./keys.ts";
import { number, text } from "../scripts/replies.ts";
import type { AnswerOf, Reply } from "../scripts/contracts.ts";
import type { Scripts } from "../scripts/scripts.ts";

interface QuotaSettings {
  readonly historyKeyPrefix: string;
  readonly limits: QuotaLimits;
  /** How long a run counts as going when nobody holds it any more, in ms: a lease. */
  readonly holdMs: number;
  readonly onError: (error: unknown) => void;
}

/** What begin.lua takes along: where to count and up to what, or what came of asking before. */
interface TurnQuota {
  readonly keys: readonly string[];
  readonly limits: string;
  /** "" where there is room, and where the script asks itself. */
  readonly refused: string;
}

export const uncounted: TurnQuota = { keys: [], limits: "", refused: "" };

const limitOfCode = { SENDS: "sendsPerMinute", GOING: "runs", TOKENS: "tokensPerDay" } as const;
/** What quota-admit.lua does where there is room (its ARGV 4). */
const admission = { count: 0, countAsInterrupting: 1, ask: 2 } as const;
/** For one script; a process may have more runs of one owner than that. */
const mostHeldAtOnce = 500;

/** What subjects may cost over all gateways (scripts/quota/quota.lua). */
export class RedisQuotas implements Quotas {
  readonly #redis: Client;
  readonly #scripts: Scripts;
  readonly #settings: QuotaSettings;
  readonly #limits: string;
  /** Runs of this process by owner, where there is a limit on them. */
  readonly #held = new Map<string, Set<string>>();
  #timer: NodeJS.Timeout | null = null;

  constructor(redis: Client, scripts: Scripts, settings: QuotaSettings) {
    this.#redis = redis;
    this.#scripts = scripts;
    this.#settings = settings;
    this.#limits = limitsText(settings.limits);
  }

  /**
   * On one server the turn's own script counts it, so that a turn is one write and costs no round trip more. In a
   * cluster an owner has another slot than the session: it is counted ahead, and begin.lua is told what came of that, so
   * that a retry gets its answer all the same. `interrupts`: what is going in its session leaves its place to it.
   */
  async ofTurn(owner: string, runId: string, interrupts: boolean): Promise<TurnQuota> {
    const { sends, going, tokens } = this.#keys(owner);
    if (!(this.#redis instanceof Cluster)) {
      return { keys: [sends, going, tokens], limits: this.#limits, refused: "" };
    }
    const answer = await this.#admit(owner, runId, interrupts ? admission.countAsInterrupting : admission.count);
    if (answer.code === "OK") return uncounted;
    return { ...uncounted, refused: `${text(answer.limit)} ${number(answer.seconds)}` };
  }

  /** A turn that was asked for ahead has not begun. */
  refund(owner: string, runId: string): void {
    if (!(this.#redis instanceof Cluster)) return;
    const { sends, going } = this.#keys(owner);
    this.#send(this.#redis.zrem(sends, runId));
    this.#send(this.#redis.zrem(going, runId));
  }

  /** A turn has ended this one. On one server its script has freed the place already. */
  interrupted(owner: string, runId: string): void {
    if (!(this.#redis instanceof Cluster)) return;
    this.#send(this.#redis.zrem(this.#keys(owner).going, runId));
  }

  async admit(owner: string, id: string): Promise<void> {
    const answer = await this.#admit(owner, id, admission.count);
    if (answer.code === "LIMITED") throw rateLimited(refusalOf(answer.limit, answer.seconds));
  }

  async hasRoom(owner: string, tokens: number): Promise<boolean> {
    const { tokensPerDay } = this.#settings.limits;
    // The script lets a call in while the day's tokens are below the limit; this one must not bring them beyond it.
    const most = tokensPerDay === null ? null : Math.max(0, tokensPerDay - tokens + 1);
    const limits = limitsText({ ...this.#settings.limits, tokensPerDay: most });
    return (await this.#admit(owner, "", admission.ask, limits)).code === "OK";
  }

  hold(owner: string, runId: string): void {
    if (this.#settings.limits.runs === null) return;
    const held = this.#held.get(owner);
    if (held) held.add(runId);
    else this.#held.set(owner, new Set([runId]));
    this.#timer ??= setInterval(() => this.#renew(), this.#settings.holdMs / 3).unref();
  }

  release(owner: string, runId: string): void {
    if (this.#settings.limits.runs === null) return;
    const held = this.#held.get(owner);
    if (held?.delete(runId) !== true) return;
    if (held.size === 0) this.#held.delete(owner);
    this.#send(this.#redis.zrem(this.#keys(owner).going, runId));
  }

  keep(owner: string, runId: string, ms: number): void {
    if (this.#settings.limits.runs === null) return;
    const held = this.#held.get(owner);
    if (held?.delete(runId) === true && held.size === 0) this.#held.delete(owner);
    const { going } = this.#keys(owner);
    this.#send(this.#scripts.call("quota-hold", [going], { holdMs: ms, ids: [runId] }));
  }

  drop(owner: string, runId: string, goesOn: boolean): void {
    if (this.#settings.limits.runs === null) return;
    const { going } = this.#keys(owner);
    const { holdMs } = this.#settings;
    this.#send(this.#redis.zrem(going, runId));
    if (goesOn) this.#send(this.#scripts.call("quota-hold", [going], { holdMs, ids: [runId] }));
  }

  spend(owner: string, id: string, tokens: () => number): void {
    if (this.#settings.limits.tokensPerDay === null) return;
    const cost = Math.ceil(tokens());
    if (!(cost > 0)) return;
    const keys = this.#keys(owner);
    this.#send(this.#scripts.call("quota-spend", [keys.tokens, keys.spent], { id, tokens: cost }));
  }

  /** What is held counts for a lease longer, whoever is still there to let it go then. */
  close(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#held.clear();
  }

  #keys(owner: string): ReturnType<typeof quotaKeys> {
    return quotaKeys(this.#settings.historyKeyPrefix, owner);
  }

  #admit(
    owner: string,
    id: string,
    how: (typeof admission)[keyof typeof admission],
    limits = this.#limits,
  ): Promise<AnswerOf<"quota-admit">> {
    const { sends, going, tokens } = this.#keys(owner);
    const { holdMs } = this.#settings;
    return guarded(this.#scripts.call("quota-admit", [sends, going, tokens], { id, limits, holdMs, how }));
  }

  #renew(): void {
    const { holdMs } = this.#settings;
    for (const [owner, runs] of this.#held) {
      const all = [...runs];
      const { going } = this.#keys(owner);
      for (let at = 0; at < all.length; at += mostHeldAtOnce) {
        const ids = all.slice(at, at + mostHeldAtOnce);
        this.#send(this.#scripts.call("quota-hold", [going], { holdMs, ids }));
      }
    }
  }

  /** What is lost here frees a place a lease later, or lets a subject use some tokens more. */
  #send(sent: Promise<unknown>): void {
    sent.catch(this.#settings.onError);
  }
}

/** As quota.lua takes them. */
function limitsText({ sendsPerMinute, runs, tokensPerDay }: QuotaLimits): string {
  return `${sendsPerMinute ?? ""}:${runs ?? ""}:${tokensPerDay ?? ""}`;
}

/** As quota.lua says it. */
export function refusalOf(limit: Reply | undefined, seconds: Reply | undefined): Refusal {
  const code = text(limit);
  const name = code === "SENDS" || code === "GOING" || code === "TOKENS" ? limitOfCode[code] : "sendsPerMinute";
  return { limit: name, retryAfterSeconds: number(seconds) };
}
