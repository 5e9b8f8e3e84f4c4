import type { Run } from "../../conversation/run.ts";
import type { MemorySettings } from "../../conversation/session.ts";
import type {
  Attended,
  BeginAnswer,
  BeginTurn,
  ProgressAnswer,
  FinishedTurn,
  LogBatch,
  StartedTurn,
  TurnEnd,
  TurnToken,
} from "../../conversation/ports/store.ts";
import { escapeFragment, fillTemplate, type RowTemplate } from "../../conversation/message/stored-message.ts";
import { NotReplicated } from "../client/durable.ts";
import { refusalOf, uncounted, type RedisQuotas } from "./quotas.ts";
import { headOf, list, memoryOf, number, packMemory, runIn, stateOf, text, type Head } from "../scripts/replies.ts";
import { recordFields } from "../scripts/record-fields.ts";
import type { Reply } from "../scripts/scripts.ts";
import { callersOp, foreign, ownOp, type SessionCalls } from "../scripts/session-calls.ts";
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
  /** What an owner's turns are counted against; null: nothing. */
  readonly quotas: RedisQuotas | null;
  /** Milliseconds that other processes' leases are given beyond their end (after a loss of Redis). */
  readonly leaseGraceMs: () => number;
  /** A turn has begun for this process, although begin() rejects: the replicas were too slow to acknowledge it. */
  readonly onStarted: (turn: StartedTurn) => void;
}

const noLog: LogBatch = { offset: 0, lines: "" };

interface WrittenParts {
  readonly input: string;
  readonly text: string;
  readonly log: string;
  readonly userRow: string;
  readonly reply: RowTemplate | null;
}

/** The turns of sessions as Redis keeps them, from begin.lua to finish.lua. */
export class SessionTurns {
  readonly #calls: SessionCalls;
  readonly #index: SessionIndex;
  readonly #settings: TurnSettings;

  constructor(calls: SessionCalls, index: SessionIndex, settings: TurnSettings) {
    this.#calls = calls;
    this.#index = index;
    this.#settings = settings;
  }

  async begin(owner: string, key: string, turn: BeginTurn): Promise<BeginAnswer> {
    const { leaseMs, maxQueuedRuns, memory, memoryRows, model, processId, quotas } = this.#settings;
    const quota = (await quotas?.ofTurn(owner, turn.runId, turn.whenBusy === "INTERRUPT")) ?? uncounted;
    const [cg, cp, cm] = this.#calls.anchorArgs(owner, turn.replaceFrom);
    const run = {
      id: turn.runId,
      own: processId,
      rid: turn.replyMessageId,
      model: turn.model ?? "",
      ...(turn.inputId ? { uid: turn.inputId.messageId, ...(turn.inputId.chosen ? { uc: 1 } : {}) } : { re: 1 }),
      ...(turn.origin ? { tp: turn.origin } : {}),
      ...(turn.replaceFrom ? { cg, cp, cm } : {}),
    };
    const { head, middle, tail } = turn.partial;
    // Where the script writes the index itself, nothing can come between the two.
    const ahead = this.#index.keysOf(owner) === null;
    const mayBeNew = turn.existingOnly !== true;
    if (ahead) this.#index.expect(owner, key, leaseMs, mayBeNew);
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
      quota.limits,
      quota.refused,
      turn.keyOp ? this.#calls.opId(owner, turn.keyOp.id) : "",
      turn.keyOp?.fingerprint ?? "",
      ...recordFields(turn.newSession ?? {}),
    ];
    const mode = mayBeNew ? undefined : foreign.existingOnly;
    const extras = { mode, counted: quota.keys, indexOf: owner };
    const beginning = this.#calls.run("begin", owner, key, callersOp(turn.op), args, extras);
    const answer = await beginning.catch((error: unknown) => {
      // It stands, and a retry asks for its reply: somebody has to make that.
      if (error instanceof NotReplicated && error.answer[0] === "STARTED") {
        this.#settings.onStarted(this.#started(key, error.answer));
      }
      throw error;
    });
    if (answer[0] !== "STARTED" && answer[0] !== "QUEUED") {
      quotas?.refund(owner, turn.runId);
      if (ahead && mayBeNew) this.#index.withdraw(owner, key);
    }
    switch (answer[0]) {
      case "STARTED":
        if (answer[10] !== undefined) quotas?.interrupted(owner, text(answer[10]));
        return this.#started(key, answer);
      case "LIMITED":
        return { kind: "limited", refusal: refusalOf(answer[1], answer[2]) };
      case "QUEUED": {
        const head = headOf(answer[1]);
        this.#calls.note(owner, key, head);
        const input = turn.input ? `${turn.input.head}\t${turn.input.tail}` : "";
        const run = this.#runOf(key, head, answer[2], { input, text: "", log: "", userRow: "", reply: null });
        return { kind: "queued", runId: run.runId, run };
      }
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
      case "KEYLESS":
        return { kind: "keyless" };
      case "EXPIRED":
        return { kind: "expired" };
      case "NOTHING":
        return { kind: "nothing" };
      default:
        return { kind: "notFound" };
    }
  }

  async attend(key: string, takeAny: boolean): Promise<Attended> {
    const { leaseMs, memory, memoryRows, processId } = this.#settings;
    const answer = await this.#calls.run("attend", "*", key, ownOp(), [
      processId,
      this.#settings.leaseGraceMs(),
      takeAny ? 1 : 0,
      leaseMs,
      packMemory(memory),
      memoryRows,
    ]);
    if (answer[0] === "NOT_FOUND") return { turn: null, dueAt: 0 };
    const turn = answer[0] === "STARTED" ? this.#started(key, answer) : null;
    return { turn, dueAt: headOf(answer[1]).due };
  }

  async progress(turn: TurnToken, offset: number, fragment: string, log: LogBatch = noLog): Promise<ProgressAnswer> {
    const answer = await this.#calls.run("progress", "*", turn.historyKey, null, [
      turn.runId,
      turn.token,
      offset,
      escapeFragment(fragment),
      fragment.length,
      this.#settings.leaseMs,
      log.offset,
      log.lines,
      log.lines.length,
    ]);
    if (answer[0] === "OK") return { kind: "ok" };
    if (answer[0] !== "LENGTH") return { kind: "closed" };
    return { kind: "length", length: number(answer[1]), logLength: number(answer[2]) };
  }

  async renew(turn: TurnToken): Promise<boolean> {
    const answer = await this.#calls.run("renew", "*", turn.historyKey, null, [
      turn.runId,
      turn.token,
      this.#settings.leaseMs,
    ]);
    return answer[0] === "OK";
  }

  async finish(turn: StartedTurn, end: TurnEnd, op: string): Promise<FinishedTurn> {
    const usage = end.kind === "completed" ? end.usage : null;
    const reply = end.kind === "completed" ? end.reply : { head: "", tail: "" };
    const error = end.kind === "failed" ? end.error : null;
    const args = [
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
      error?.retryAfterSeconds ?? "",
      end.notes?.join("\n") ?? "",
      end.log ?? "",
    ];
    const extras = { indexOf: turn.owner };
    const answer = await this.#calls.run("finish", "*", turn.historyKey, ownOp(op), args, extras);
    if (answer[0] === "NOT_FOUND") return { run: null, wantsTitle: false };
    const head = headOf(answer[1]);
    this.#calls.note(turn.owner, turn.historyKey, head);
    const wantsTitle = answer[3] === "1";
    // A repeat may come after others have changed the session: what is known of it then is not of this moment.
    if (answer[0] !== "OK") return { run: null, wantsTitle };
    const parts = { input: turn.inputRow, text: end.text, log: end.log ?? "", userRow: turn.inputRow };
    const template = end.kind === "completed" ? end.reply : null;
    const run = this.#runOf(turn.historyKey, head, answer[2], { ...parts, reply: template });
    return { run, wantsTitle };
  }

  /** The run that a script has just written, with what this process gave it: as a reading of that moment would have it. */
  #runOf(key: string, head: Head, answer: Reply | undefined, { reply, ...parts }: WrittenParts): Run {
    const state = stateOf(text(answer));
    const { userPosition, replyPosition } = state;
    return runIn(this.#sessionIdOf(key), key, head.generation, state, {
      ...parts,
      // Retention may have trimmed what it answers.
      userRow: userPosition !== null && userPosition >= head.base ? parts.userRow : "",
      replyRow: reply && replyPosition !== null ? fillTemplate(reply, replyPosition) : "",
    });
  }

  #sessionIdOf(key: string): string {
    return key.slice(this.#settings.historyKeyPrefix.length);
  }

  #started(key: string, answer: readonly Reply[]): StartedTurn {
    const [, headJson, stateJson, input, memory, instructions, summary, low, rows, ofWhom] = answer;
    const head = headOf(headJson);
    const state = stateOf(text(stateJson));
    const inputRow = text(input);
    const owner = text(ofWhom);
    const sessionId = this.#sessionIdOf(key);
    const parts = { input: inputRow, text: "", log: "", userRow: inputRow, replyRow: "" };
    this.#calls.note(owner, key, head);
    return {
      kind: "started",
      owner,
      sessionId,
      historyKey: key,
      runId: state.runId,
      token: state.token,
      state,
      run: runIn(sessionId, key, head.generation, state, parts),
      inputRow,
      memory: memoryOf(text(memory)),
      instructions: text(instructions) || null,
      summary: text(summary) || null,
      low: number(low),
      rows: list(rows).map(text).reverse(),
    };
  }
}
