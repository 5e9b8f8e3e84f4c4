import type { MemorySettings } from "../conversation/session.ts";
import type { BeginAnswer, BeginTurn, ProgressAnswer, StartedTurn, TurnEnd, TurnToken } from "../conversation/store.ts";
import { escapeFragment } from "../conversation/stored-message.ts";
import type { Client } from "./connection.ts";
import { NotReplicated } from "./durable.ts";
import { guarded } from "./failure.ts";
import { sessionKeys } from "./keys.ts";
import { headOf, list, memoryOf, number, packMemory, stateOf, text } from "./replies.ts";
import type { Reply } from "./scripts.ts";
import { callersOp, foreign, ownOp, type SessionCalls } from "./session-calls.ts";
import type { SessionIndex } from "./session-index.ts";

export interface TurnSettings {
  /** In front of each sessionId; "" as in LangChain JS. */
  readonly historyKeyPrefix: string;
  /** Names this process in the runs that it makes. */
  readonly processId: string;
  readonly leaseMs: number;
  readonly maxQueuedRuns: number;
  readonly model: string;
  readonly memory: MemorySettings;
  /** The most rows that a turn reads. */
  readonly memoryRows: number;
  /** Milliseconds that other processes' leases are given beyond their end (after a loss of Redis). */
  readonly leaseGraceMs: () => number;
  /** A turn has begun for this process, although begin() rejects: the replicas were too slow to acknowledge it. */
  readonly onStarted: (turn: StartedTurn) => void;
}

/** The turns of sessions as Redis keeps them, from begin.lua to finish.lua. */
export class SessionTurns {
  readonly #redis: Client;
  readonly #calls: SessionCalls;
  readonly #index: SessionIndex;
  readonly #settings: TurnSettings;

  constructor(redis: Client, calls: SessionCalls, index: SessionIndex, settings: TurnSettings) {
    this.#redis = redis;
    this.#calls = calls;
    this.#index = index;
    this.#settings = settings;
  }

  async begin(owner: string, key: string, turn: BeginTurn): Promise<BeginAnswer> {
    const { leaseMs, maxQueuedRuns, memory, memoryRows, model, processId } = this.#settings;
    const run = {
      id: turn.runId,
      own: processId,
      rid: turn.replyMessageId,
      model: turn.model ?? "",
      ...(turn.input ? {} : { re: 1 }),
      ...(turn.replaceFrom
        ? { cg: turn.replaceFrom.generation, cp: turn.replaceFrom.position, cm: turn.replaceFrom.mark }
        : {}),
    };
    const { head, middle, tail } = turn.partial;
    this.#index.expect(owner, key, leaseMs, turn.existingOnly !== true);
    const args = [
      JSON.stringify(run),
      turn.input?.head ?? "",
      turn.input?.tail ?? "",
      `${head}\t${middle}\t${tail}`,
      turn.whenBusy,
      maxQueuedRuns,
      leaseMs,
      this.#settings.leaseGraceMs(),
      packMemory(memory),
      memoryRows,
      model,
    ];
    const mode = turn.existingOnly === true ? foreign.existingOnly : undefined;
    const beginning = this.#calls.run("begin", owner, key, callersOp(turn.op), args, { mode });
    const answer = await beginning.catch((error: unknown) => {
      // It stands, and a retry asks for its reply: somebody has to make that.
      if (error instanceof NotReplicated && error.answer[0] === "STARTED") {
        this.#settings.onStarted(this.#started(owner, key, error.answer));
      }
      throw error;
    });
    switch (answer[0]) {
      case "STARTED":
        return this.#started(owner, key, answer);
      case "QUEUED":
        this.#calls.note(owner, key, headOf(answer[1]));
        return { kind: "queued", runId: stateOf(text(answer[2])).runId };
      case "KNOWN": {
        const result = text(answer[2]);
        return {
          kind: "known",
          fingerprint: text(answer[1]),
          runId: result.startsWith("run:") ? result.slice(4) : null,
        };
      }
      case "BUSY":
        return { kind: "busy", runId: text(answer[1]) };
      case "FULL":
        return { kind: "full" };
      case "EXPIRED":
        return { kind: "expired" };
      case "NOTHING":
        return { kind: "nothing" };
      default:
        // Another's session, perhaps: it must not stay in this owner's list, where it would tell that it is there (P11).
        this.#index.withdraw(owner, key);
        return { kind: "notFound" };
    }
  }

  async attend(key: string, takeAny: boolean): Promise<StartedTurn | null> {
    const { leaseMs, memory, memoryRows, processId } = this.#settings;
    const answer = await this.#calls.run("attend", "*", key, ownOp(), [
      processId,
      this.#settings.leaseGraceMs(),
      takeAny ? 1 : 0,
      leaseMs,
      packMemory(memory),
      memoryRows,
    ]);
    if (answer[0] === "STARTED") {
      const owner = await guarded(this.#redis.hget(sessionKeys(key).session, "owner"));
      return this.#started(owner ?? "", key, answer);
    }
    return null;
  }

  /** When a session needs somebody again, as attend() left it. 0: not at all. */
  async dueAt(key: string): Promise<number> {
    const keys = sessionKeys(key);
    const [active, until] = await guarded(this.#redis.hmget(keys.session, "active", "until"));
    if (active && until) return Number(until);
    const waiting = await guarded(this.#redis.llen(keys.queue));
    return waiting > 0 ? Date.now() + 1000 : 0;
  }

  async progress(turn: TurnToken, offset: number, fragment: string): Promise<ProgressAnswer> {
    const answer = await this.#calls.run("progress", "*", turn.historyKey, null, [
      turn.runId,
      turn.token,
      offset,
      escapeFragment(fragment),
      fragment.length,
      this.#settings.leaseMs,
    ]);
    if (answer[0] === "OK") return { kind: "ok" };
    return answer[0] === "LENGTH" ? { kind: "length", length: number(answer[1]) } : { kind: "closed" };
  }

  async renew(turn: TurnToken): Promise<boolean> {
    const answer = await this.#calls.run("renew", "*", turn.historyKey, null, [
      turn.runId,
      turn.token,
      this.#settings.leaseMs,
    ]);
    return answer[0] === "OK";
  }

  async finish(turn: StartedTurn, end: TurnEnd, op: string): Promise<void> {
    const usage = end.kind === "completed" ? end.usage : null;
    const reply = end.kind === "completed" ? end.reply : { head: "", tail: "" };
    const error = end.kind === "failed" ? end.error : null;
    const answer = await this.#calls.run("finish", "*", turn.historyKey, ownOp(op), [
      turn.runId,
      turn.token,
      end.kind === "completed" ? "COMPLETED" : "FAILED",
      reply.head,
      reply.tail,
      escapeFragment(end.text),
      usage?.inputTokens ?? "",
      usage?.outputTokens ?? "",
      usage?.totalTokens ?? "",
      error?.code ?? "",
      error?.message ?? "",
      error?.retryable ? 1 : 0,
    ]);
    if (answer[0] !== "NOT_FOUND") this.#calls.note(turn.owner, turn.historyKey, headOf(answer[1]));
  }

  #started(owner: string, key: string, answer: readonly Reply[]): StartedTurn {
    const [, head, state, inputRow, memory, instructions, summary, low, rows] = answer;
    const run = stateOf(text(state));
    this.#calls.note(owner, key, headOf(head));
    return {
      kind: "started",
      owner,
      sessionId: key.slice(this.#settings.historyKeyPrefix.length),
      historyKey: key,
      runId: run.runId,
      token: run.token,
      state: run,
      inputRow: text(inputRow),
      memory: memoryOf(text(memory)),
      instructions: text(instructions) || null,
      summary: text(summary) || null,
      low: number(low),
      rows: list(rows).map(text).reverse(),
    };
  }
}
