import { badInput, messageIdReused, notFound, ParleyError } from "../errors.ts";
import { sessionTag } from "../message/ids.ts";
import type { JsonObject } from "../message/json.ts";
import type { ContentBlock } from "../message/message.ts";
import { storedContent, templateOfAnswer, templateOfReply } from "../message/stored-message.ts";
import { partsOf, type ToolChange, type ToolPart } from "../part-log.ts";
import { PartLog } from "../part-writer.ts";
import type { Replies } from "../ports/model.ts";
import type { Op, RespondAnswer, RunResponse, SessionStore, Waiting } from "../ports/store.ts";
import { decidedOf, editedData, pausedRunOf, type Decided, type PausedRun } from "./paused-run.ts";
import { lostAnswerTo } from "./run-steps.ts";

export type Decision = { readonly callId: string } & (
  | { readonly kind: "APPROVE" }
  | { readonly kind: "EDIT"; readonly args: JsonObject }
  | { readonly kind: "REJECT"; readonly reason: string | null }
  /** A page carries the call out. */
  | { readonly kind: "BEGIN" }
  | { readonly kind: "RESULT"; readonly content: readonly ContentBlock[]; readonly failed: boolean }
);

interface RespondingParts {
  readonly store: Pick<SessionStore, "waiting" | "respond">;
  readonly takes: Replies["takes"];
  readonly clipped: Replies["clipped"];
  readonly historyKeyPrefix: string;
  /** What is kept of a run's parts beside its text, in bytes. */
  readonly partsBytes: number;
  readonly now: () => number;
}

const mostDecisions = 100;
const maxReasonChars = 4000;
const maxArgsBytes = 65_536;
const maxBlocks = 100;
/** Each time somebody else was quicker, so that fewer calls are left to decide on. */
const mostAttempts = 200;

/** Decisions on calls of tools, by which a run that waits goes on. */
export class Responding {
  readonly #parts: RespondingParts;

  constructor(parts: RespondingParts) {
    this.#parts = parts;
  }

  /**
   * Takes all of the decisions, or none. A turn: it was the last one, and the run is this process' to carry on. null: the
   * run waits for others, or the op was done before.
   */
  async respond(
    owner: string,
    sessionId: string,
    runId: string,
    decisions: readonly Decision[],
    op: Op,
  ): Promise<Extract<RespondAnswer, { readonly kind: "started" }> | null> {
    checkForm(decisions);
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const waiting = await this.#parts.store.waiting(owner, sessionId, runId, op.id);
      if (waiting.kind === "known") return knownAs(op, waiting.fingerprint);
      if (waiting.kind === "notWaiting") throw notWaiting();
      const response = await this.#responseTo(sessionId, runId, waiting, decisions);
      const answer = await this.#parts.store.respond(owner, sessionId, response, op);
      if (answer.kind === "started") return answer;
      if (answer.kind === "known") return knownAs(op, answer.fingerprint);
      if (answer.kind === "notWaiting") throw notWaiting();
      if (answer.kind === "ok") return null;
    }
    throw notFound("run");
  }

  async #responseTo(
    sessionId: string,
    runId: string,
    { log, state, decisions: before }: Extract<Waiting, { readonly kind: "waiting" }>,
    decisions: readonly Decision[],
  ): Promise<RunResponse> {
    const { historyKeyPrefix, partsBytes, now, takes } = this.#parts;
    const paused = pausedRunOf(state);
    const parts = new Map(
      partsOf(log, "", "").flatMap((part) => (part.kind === "tool" ? [[part.callId, part] as const] : [])),
    );
    const writer = new PartLog(partsBytes, log);
    const all: (Decided | null)[] = before.map(decidedOf);
    const session = sessionTag(historyKeyPrefix + sessionId);
    const noteOf = (hint: number) => ({ session, runId, hint, createdAt: now() });
    const taken: RunResponse["decisions"][number][] = [];
    for (const [i, decision] of decisions.entries()) {
      const { callId, kind } = decision;
      const at = `input.decisions[${i}]`;
      const number = paused.calls.findIndex((call) => call.callId === callId);
      const call = paused.calls[number];
      if (call === undefined || call.asks === null || isDone(all[number])) throw notAsked(at);
      if (parts.get(callId)?.allowed?.includes(kind) !== true) throw notAllowed(at, kind, parts.get(callId));
      if (kind === "EDIT" && call.asks.for === "approval" && !(await takes(call.asks.schema, decision.args)))
        throw badInput(`${at}.edit.args`, `The arguments do not fit what the tool ${call.name} takes.`);
      const decided = await this.#decidedBy(decision, call);
      all[number] = decided;
      writer.change(callId, changeBy(decided, now()), 0);
      // Of one that begins here nobody else may ever tell what came of it.
      const data = kind === "BEGIN" ? lostAnswerTo(callId, call.name) : decided.answer;
      const row = data && templateOfAnswer(data, call.messageId, noteOf(call.hint));
      const isFor = kind === "BEGIN" ? "call" : "answer";
      const given = { number: number + 1, callId, decision: JSON.stringify(decided) };
      taken.push({ ...given, row: row === undefined ? null : { is: isFor, row } });
    }
    const isLeft = ({ asks }: PausedCall, i: number) => asks !== null && !isDone(all[i]);
    const left = paused.calls.filter(isLeft);
    // Behind the last approval the page's own may begin.
    if (!left.some(({ asks }) => asks?.for === "approval")) {
      for (const { callId } of left)
        if (parts.get(callId)?.allowed?.length === 0)
          writer.change(callId, { status: "NEEDS_RESULT", allowed: ["BEGIN"] }, 0);
    }
    const isEdited = all.some((one) => one?.args !== undefined);
    const { messageId, hint } = paused.reply;
    return {
      runId,
      left: left.length,
      row: isEdited ? templateOfReply(editedData(paused, all), messageId, noteOf(hint)) : null,
      log: { offset: log.length, lines: writer.whole.slice(log.length) },
      decisions: taken,
    };
  }

  async #decidedBy(decision: Decision, { name, asks }: PausedCall): Promise<Decided> {
    const { callId } = decision;
    switch (decision.kind) {
      case "BEGIN":
      case "APPROVE":
        return { kind: decision.kind };
      case "EDIT":
        return { kind: "EDIT", args: decision.args };
      case "REJECT": {
        const { reason } = decision;
        const content =
          reason === null || reason === "" ? "The call was rejected." : `The call was rejected: ${reason}`;
        return { kind: "REJECT", answer: { content, tool_call_id: callId, name, status: "error" } };
      }
      case "RESULT": {
        const mostBytes = asks?.for === "result" ? asks.resultBytes : 0;
        const content = await this.#parts.clipped(storedContent(decision.content), mostBytes);
        const status = decision.failed ? "error" : "success";
        return { kind: "RESULT", answer: { content, tool_call_id: callId, name, status } };
      }
    }
  }
}

type PausedCall = PausedRun["calls"][number];

/** Whether nothing more is to be decided on a call. */
function isDone(decided: Decided | null | undefined): boolean {
  return decided !== null && decided !== undefined && decided.kind !== "BEGIN";
}

/** @throws {ParleyError} BAD_USER_INPUT */
function checkForm(decisions: readonly Decision[]): void {
  if (decisions.length === 0) throw badInput("input.decisions", "There must be a decision at least.");
  if (decisions.length > mostDecisions)
    throw badInput("input.decisions", `There must be at most ${mostDecisions} decisions at a time.`);
  for (const [i, decision] of decisions.entries()) {
    const at = `input.decisions[${i}]`;
    if (decisions.findIndex(({ callId }) => callId === decision.callId) < i)
      throw badInput(`${at}.callId`, "There are two decisions on the same call.");
    if (decision.kind === "REJECT" && (decision.reason ?? "").length > maxReasonChars)
      throw badInput(`${at}.reject.reason`, `A reason must have at most ${maxReasonChars} characters.`);
    if (decision.kind === "EDIT" && Buffer.byteLength(JSON.stringify(decision.args)) > maxArgsBytes)
      throw badInput(`${at}.edit.args`, `Arguments must have at most ${maxArgsBytes} bytes.`);
    if (decision.kind === "RESULT" && decision.content.length > maxBlocks)
      throw badInput(`${at}.result.content`, `A result must have at most ${maxBlocks} blocks.`);
  }
}

function changeBy({ kind, args, answer }: Decided, now: number): ToolChange {
  const decided = { decided: kind, allowed: [] } as const;
  const content = answer?.["content"];
  switch (kind) {
    case "BEGIN":
      return { status: "RUNNING", decided: kind, allowed: ["RESULT"], startedAt: now };
    case "RESULT":
      return { status: answer?.["status"] === "error" ? "FAILED" : "DONE", ...decided, finishedAt: now, content };
    case "REJECT":
      return { status: "REJECTED", ...decided, finishedAt: now, content };
    case "APPROVE":
    case "EDIT":
      return { status: "NEEDS_APPROVAL", ...decided, ...(args === undefined ? {} : { args }) };
  }
}

function notAsked(at: string): ParleyError {
  return badInput(
    `${at}.callId`,
    "The run waits for no decision on a call of this id: there is none, or it is decided.",
  );
}

function notAllowed(at: string, kind: Decision["kind"], part: ToolPart | undefined): ParleyError {
  const isPages = part?.status === "NEEDS_RESULT" || part?.decided === "BEGIN";
  if (isPages && kind === "BEGIN" && part.decided === "BEGIN")
    return badInput(at, "This call has been begun, by this page or another: only its result is to come.");
  if (isPages && part.allowed?.length === 0)
    return badInput(at, "This call may not begin yet: other calls of the same message wait for an approval.");
  if (isPages && kind === "RESULT") return badInput(at, "Begin this call first: then nobody else carries it out.");
  return badInput(at, "This may not be decided on this call.");
}

function knownAs(op: Op, fingerprint: string): null {
  if (fingerprint !== op.fingerprint) throw messageIdReused();
  return null;
}

function notWaiting(): ParleyError {
  return new ParleyError("NOT_WAITING", "The run waits for no decision: it goes on, or it has ended. Read the run.");
}
