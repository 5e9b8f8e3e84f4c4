import { badInput, messageIdReused, notFound, ParleyError } from "../errors.ts";
import { sessionTag } from "../message/ids.ts";
import type { JsonObject } from "../message/json.ts";
import { templateOfAnswer, templateOfReply } from "../message/stored-message.ts";
import { isUndecided, partsOf, type ToolChange } from "../part-log.ts";
import { PartLog } from "../part-writer.ts";
import type { Replies } from "../ports/model.ts";
import type { Op, RespondAnswer, RunResponse, SessionStore, Waiting } from "../ports/store.ts";
import { decidedOf, editedData, pausedRunOf, type Decided } from "./paused-run.ts";

export type Decision = { readonly callId: string } & (
  | { readonly kind: "APPROVE" }
  | { readonly kind: "EDIT"; readonly args: JsonObject }
  | { readonly kind: "REJECT"; readonly reason: string | null }
);

interface RespondingParts {
  readonly store: Pick<SessionStore, "waiting" | "respond">;
  readonly takes: Replies["takes"];
  readonly historyKeyPrefix: string;
  /** What is kept of a run's parts beside its text, in bytes. */
  readonly partsBytes: number;
  readonly now: () => number;
}

const mostDecisions = 100;
const maxReasonChars = 4000;
const maxArgsBytes = 65_536;
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
    const undecided = new Map(
      partsOf(log, "", "")
        .filter(isUndecided)
        .map((part) => [part.callId, part]),
    );
    const writer = new PartLog(partsBytes, log);
    const all: (Decided | null)[] = before.map(decidedOf);
    const session = sessionTag(historyKeyPrefix + sessionId);
    const noteOf = (hint: number) => ({ session, runId, hint, createdAt: now() });
    const taken: RunResponse["decisions"][number][] = [];
    for (const [i, decision] of decisions.entries()) {
      const { callId, kind } = decision;
      const at = `input.decisions[${i}]`;
      const part = undecided.get(callId);
      const number = paused.calls.findIndex((call) => call.callId === callId);
      const call = paused.calls[number];
      if (part === undefined || call === undefined)
        throw badInput(
          `${at}.callId`,
          "The run waits for no decision on a call of this id: there is none, or it is decided.",
        );
      if (part.allowed?.includes(kind) !== true) throw badInput(at, "This may not be decided on this call.");
      if (kind === "EDIT" && !(await takes(call.schema, decision.args)))
        throw badInput(`${at}.edit.args`, `The arguments do not fit what the tool ${call.name} takes.`);
      const decided = decidedBy(decision, call.name);
      all[number] = decided;
      writer.change(callId, changeBy(decision, decided, now()), 0);
      const answer =
        decided.answer === undefined ? null : templateOfAnswer(decided.answer, call.messageId, noteOf(call.hint));
      taken.push({ number: number + 1, decision: JSON.stringify(decided), answer });
    }
    const isEdited = all.some((one) => one?.args !== undefined);
    const { messageId, hint } = paused.reply;
    return {
      runId,
      left: undecided.size - decisions.length,
      row: isEdited ? templateOfReply(editedData(paused, all), messageId, noteOf(hint)) : null,
      log: { offset: log.length, lines: writer.whole.slice(log.length) },
      decisions: taken,
    };
  }
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
  }
}

function decidedBy(decision: Decision, name: string): Decided {
  switch (decision.kind) {
    case "APPROVE":
      return { kind: "APPROVE" };
    case "EDIT":
      return { kind: "EDIT", args: decision.args };
    case "REJECT": {
      const { callId, reason } = decision;
      const content = reason === null || reason === "" ? "The call was rejected." : `The call was rejected: ${reason}`;
      return { kind: "REJECT", answer: { content, tool_call_id: callId, name, status: "error" } };
    }
  }
}

function changeBy({ kind }: Decision, { args, answer }: Decided, now: number): ToolChange {
  const decided = { decided: kind, allowed: [] } as const;
  if (answer !== undefined) return { status: "REJECTED", ...decided, finishedAt: now, content: answer["content"] };
  return { status: "NEEDS_APPROVAL", ...decided, ...(args === undefined ? {} : { args }) };
}

function knownAs(op: Op, fingerprint: string): null {
  if (fingerprint !== op.fingerprint) throw messageIdReused();
  return null;
}

function notWaiting(): ParleyError {
  return new ParleyError("NOT_WAITING", "The run waits for no decision: it goes on, or it has ended. Read the run.");
}
