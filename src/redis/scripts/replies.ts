import type { Row, TokenUsage } from "../../conversation/message/message.ts";
import { joinFragments } from "../../conversation/message/stored-message.ts";
import type { RunState } from "../../conversation/ports/store.ts";
import { runErrorCodes, runStatuses, type Run, type RunError } from "../../conversation/run.ts";
import type { MemorySettings, MemoryStrategy } from "../../conversation/session.ts";
import type { Reply } from "./contracts.ts";

/** Reading what the scripts answer. The scripts are ours, so a wrong shape is a bug and throws. */

export function text(reply: Reply | undefined): string {
  if (typeof reply === "string") return reply;
  if (typeof reply === "number") return String(reply);
  throw new TypeError(`Expected text from a script, got ${JSON.stringify(reply)}`);
}

export function number(reply: Reply | undefined): number {
  return Number(text(reply));
}

export function list(reply: Reply | undefined): readonly Reply[] {
  if (Array.isArray(reply)) return reply as readonly Reply[]; // Array.isArray gives any[] for a readonly union
  throw new TypeError(`Expected a list from a script, got ${JSON.stringify(reply)}`);
}

/** What every writing script says of the session it leaves behind (commit.lua). Times are Redis' own, in ms. */
export interface Head {
  readonly now: number;
  readonly added?: boolean;
  readonly updated: number;
  /** When somebody should look after the session's runs; 0: nothing to look after. */
  readonly due: number;
  readonly expires: number;
  /** Runs wait and none is going. */
  readonly free?: boolean;
  readonly nextOwner?: string;
  readonly generation: number;
  /** Position of the oldest row. */
  readonly base: number;
  /** Whether the script has written the index too (SessionIndex): "", or what went wrong there; left out: it has not. */
  readonly indexed?: string;
}

export function headOf(reply: Reply | undefined): Head {
  return JSON.parse(text(reply)) as Head; // as headOf() in commit.lua writes it
}

/** A run as the scripts keep it. */
interface RunRecord extends RunState {
  readonly inputLocalId: string | null;
  readonly replyLocalId: string;
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
  readonly waitsUntil: number | null;
  readonly token: number;
  readonly process: string;
  readonly regenerates: boolean;
  readonly userPosition: number | null;
  readonly userMark: string;
  readonly replyMark: string;
  readonly rows: Run["rows"];
  readonly error: Run["error"];
  readonly usage: TokenUsage | null;
  readonly notes: readonly string[];
  readonly isStructured: boolean;
}

/** The same as it is stored: a field is left out where there is nothing to say. */
type StoredRun = Readonly<Record<"id" | "st" | "model" | "own" | "rid" | "rl", string>> &
  Readonly<Record<"hint" | "q", number>> &
  Partial<Readonly<Record<"ul" | "tp" | "um" | "rm" | "no" | "code" | "msg", string>>> &
  Partial<
    Readonly<
      Record<
        "s" | "f" | "wu" | "up" | "rp" | "fr" | "to" | "tok" | "re" | "rt" | "ra" | "iu" | "ou" | "tu" | "so",
        number
      >
    >
  >;

export function stateOf(json: string): RunRecord {
  const stored = JSON.parse(json) as StoredRun; // as the scripts write it
  // A later version may have more of them.
  const status = runStatuses.find((one) => one === stored.st) ?? "FAILED";
  const { iu, ou, tu } = stored;
  return {
    runId: stored.id,
    status,
    model: stored.model,
    inputLocalId: stored.ul ?? null,
    replyLocalId: stored.rl,
    replyHint: stored.hint,
    replyMessageId: stored.rid,
    origin: stored.tp ?? null,
    replyPosition: stored.rp ?? null,
    queuedAt: stored.q,
    startedAt: stored.s ?? null,
    finishedAt: stored.f ?? null,
    waitsUntil: status === "WAITING" ? (stored.wu ?? null) : null,
    token: stored.tok ?? 0,
    process: stored.own,
    regenerates: stored.re !== undefined,
    userPosition: stored.up ?? null,
    userMark: stored.um ?? "",
    replyMark: stored.rm ?? "",
    rows: stored.fr === undefined || stored.to === undefined ? null : { first: stored.fr, last: stored.to },
    error: status === "FAILED" ? errorOf(stored) : null,
    usage:
      iu === undefined || ou === undefined || tu === undefined
        ? null
        : { inputTokens: iu, outputTokens: ou, totalTokens: tu },
    notes: stored.no?.split("\n") ?? [],
    isStructured: stored.so !== undefined,
  };
}

function errorOf({ code, msg, rt, ra }: StoredRun): RunError {
  return {
    code: runErrorCodes.find((one) => one === code) ?? "OTHER",
    message: msg ?? "",
    retryable: rt === 1,
    ...(ra === undefined ? {} : { retryAfterSeconds: ra }),
  };
}

interface RunParts {
  readonly input: string;
  readonly text: string;
  readonly log: string;
  /** Raw rows, "" where they are not (or no longer) where the run says. */
  readonly userRow: string;
  readonly replyRow: string;
}

/** `parts.state`: as it is stored, and `parts.text` as escaped fragments. */
export function runOf(
  sessionId: string,
  historyKey: string,
  generation: number,
  parts: RunParts & { readonly state: string },
): Run {
  const read = { ...parts, text: joinFragments(parts.text) };
  return runIn(sessionId, historyKey, generation, stateOf(parts.state), read);
}

export function runIn(
  sessionId: string,
  historyKey: string,
  generation: number,
  state: RunRecord,
  parts: RunParts,
): Run {
  const placed = (raw: string, position: number | null, mark: string): Row | null =>
    raw === "" || position === null ? null : { position, mark, raw };
  return {
    runId: state.runId,
    sessionId,
    historyKey,
    generation,
    status: state.status,
    model: state.model,
    queuedAt: state.queuedAt,
    startedAt: state.startedAt,
    finishedAt: state.finishedAt,
    waitsUntil: state.waitsUntil,
    // A waiting message has a hole for its position, written as a tab.
    inputRow: state.regenerates || parts.input === "" ? null : parts.input.replace("\t", "0"),
    userRow: state.status === "QUEUED" ? null : placed(parts.userRow, state.userPosition, state.userMark),
    inputLocalId: state.inputLocalId,
    replyLocalId: state.replyLocalId,
    replyRow: placed(parts.replyRow, state.replyPosition, state.replyMark),
    rows: state.rows,
    text: parts.text,
    log: parts.log,
    error: state.error,
    usage: state.usage,
    notes: state.notes,
    isStructured: state.isStructured,
  };
}

export function runView(
  sessionId: string,
  historyKey: string,
  generation: number,
  reply: Reply | undefined,
): Run | null {
  const [state, input, partial, userRow, replyRow, log] = list(reply);
  if (state === undefined) return null;
  const parts = {
    state: text(state),
    input: text(input),
    text: text(partial),
    userRow: text(userRow),
    replyRow: text(replyRow),
    log: text(log),
  };
  return runOf(sessionId, historyKey, generation, parts);
}

const strategies: readonly MemoryStrategy[] = ["BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"];

/** "STRATEGY:turns:tokens", as scripts pass it on. */
export function memoryOf(packed: string): MemorySettings {
  const [name, turns, tokens] = packed.split(":");
  const strategy = strategies.find((one) => one === name) ?? "BUFFER";
  return { strategy, maxTurns: turns ? Number(turns) : null, maxTokens: tokens ? Number(tokens) : null };
}
