import { randomUUID } from "node:crypto";
import { namedLocalId, sessionTag } from "../message/ids.ts";
import { objectOrEmpty, parseJson, type JsonObject } from "../message/json.ts";
import {
  escapeFragment,
  fillTemplate,
  templateOfAnswer,
  templateOfPartial,
  templateOfReply,
  type RowNote,
  type RowTemplate,
} from "../message/stored-message.ts";
import { approvalKinds, type ToolChange } from "../part-log.ts";
import type { Answer, ResumedReply, Step, Steps, WaitingStep } from "../ports/model.ts";
import type { LostCall, OpenStep, SessionStore, StartedTurn } from "../ports/store.ts";
import { decidedOf, editedData, pausedRunOf, withoutArgs, type MessagePlace, type PausedRun } from "./paused-run.ts";
import type { ReplyStream } from "./reply-stream.ts";

/** Said by the row that stands in for an answer which is lost: the model and the user are to know that there may be an effect. */
const lostAnswer = "The call was begun and its result was lost: it may or may not have taken effect.";
/** The same of a step where others were begun: while it waits, pages carry out their own. */
const noAnswer = "The call was not begun: the run ended before.";

interface Message extends MessagePlace {
  readonly localId: string;
}

/** The step that is open, whole but for the answers that are to come. */
interface Open {
  /** The reply, then the answers in the order of the calls. */
  readonly rows: (string | null)[];
  /** The calls that have no answer. */
  readonly calls: Map<string, MessagePlace & { readonly number: number }>;
}

type CallPlace = MessagePlace & { readonly callId: string; readonly name: string };

type StepStore = Pick<SessionStore, "step" | "answer" | "wait" | "claimCalls">;

/**
 * The messages of a run, one after another, and the steps that end them:
 *
 *     message ──(open: its calls are claimed)──▶ step is open ──(answer, of each call)──▶ next message
 *        │ └──(wait)──▶ the run waits ──(respond: the last decision)──▶ claim ──▲
 *        └──(it calls no tool)──▶ the run's reply
 *
 * The n-th message of a run has the id <id of the reply>.<n>, the first one the id itself; the k-th answer <…>.<n>.<k>.
 */
export class RunSteps implements Steps {
  /** null: the run begins. */
  readonly resumed: ResumedReply | null = null;
  /** Tokens that were counted for the run. */
  spent = 0;
  readonly #turn: StartedTurn;
  readonly #stream: ReplyStream;
  readonly #store: StepStore;
  readonly #now: () => number;
  #count = 0;
  #message: Message;
  /** Rows of the steps that are whole. */
  readonly #rows: string[] = [];
  #open: Open = { rows: [], calls: new Map() };
  /** Of the step that it has waited with. */
  #lost: readonly LostCall[] = [];

  constructor(turn: StartedTurn, stream: ReplyStream, store: StepStore, now: () => number) {
    this.#turn = turn;
    this.#stream = stream;
    this.#store = store;
    this.#now = now;
    const { replyMessageId: messageId, replyHint: hint } = turn.state;
    this.#message = { messageId, hint, localId: turn.run.replyLocalId };
    if (turn.resumed === undefined) return;
    const paused = pausedRunOf(turn.resumed.state);
    this.resumed = this.#goOn(paused, turn.resumed.decisions);
  }

  /** What is being made. */
  get message(): Message {
    return this.#message;
  }

  async open(step: Step): Promise<boolean> {
    const { opened, places } = this.#stepOf(step, lostAnswer);
    const isOpen = await this.#stream.write(
      (log) => this.#store.step(this.#turn, opened, log),
      () => this.#stream.endMessage(),
    );
    if (!isOpen) return false;
    this.#count += 1;
    this.#message = opened.next;
    this.#open = {
      rows: [fillTemplate(opened.row, 0), ...places.map(() => null)],
      calls: new Map(places.map((place, i) => [place.callId, { ...place, number: i + 1 }])),
    };
    return true;
  }

  async wait(step: WaitingStep): Promise<boolean> {
    const { opened, places } = this.#stepOf(step, noAnswer);
    const { text } = this.#stream;
    const paused: PausedRun = {
      count: this.#count + 1,
      message: { messageId: opened.next.messageId, hint: opened.next.hint, localId: opened.next.localId },
      reply: { messageId: this.#message.messageId, hint: this.#message.hint, data: dataOf(opened.row) },
      calls: places.map((place, i) => {
        const asks = step.calls[i]?.asks;
        return { ...place, asks: asks ? withoutArgs(asks) : null };
      }),
      rows: this.#rows,
      spent: this.spent,
      state: step.state,
    };
    const waiting = { ...opened, said: this.#said(text), state: JSON.stringify(paused) };
    return await this.#stream.write(
      (log) => this.#store.wait(this.#turn, waiting, log),
      () => {
        this.#stream.endMessage();
        // Nothing of a step begins before all approvals are there.
        const mayBegin = step.calls.every(({ asks }) => asks?.for !== "approval");
        for (const { callId, asks } of step.calls) {
          if (asks === null) continue;
          const { args } = asks;
          const change: ToolChange =
            asks.for === "approval"
              ? { status: "NEEDS_APPROVAL", allowed: approvalKinds, args }
              : { status: "NEEDS_RESULT", allowed: mayBegin ? ["BEGIN"] : [], args };
          this.#stream.add({ kind: "change", callId, change });
        }
      },
    );
  }

  async claim(): Promise<boolean> {
    const op = `i:${randomUUID()}`;
    const isOpen = await this.#stream.write(
      async () => ({ kind: (await this.#store.claimCalls(this.#turn, this.#lost, op)) ? "ok" : "closed" }),
      () => undefined,
    );
    if (isOpen) this.#close();
    return isOpen;
  }

  async answer({ callId, data, change }: Answer): Promise<boolean> {
    const call = this.#open.calls.get(callId);
    if (call === undefined) throw new Error("There is no such call in the open step");
    this.#open.calls.delete(callId);
    const { messageId, hint, number } = call;
    const row = templateOfAnswer(data, messageId, this.#note(hint));
    this.#open.rows[number] = fillTemplate(row, 0);
    this.#close();
    const op = `i:${randomUUID()}`;
    return await this.#stream.write(
      (log) => this.#store.answer(this.#turn, { number, row }, log, op),
      () => this.#stream.add({ kind: "change", callId, change }),
    );
  }

  /** Takes up what another process, or this one, has left to wait. */
  #goOn(paused: PausedRun, given: readonly string[]): ResumedReply {
    const decisions = given.map(decidedOf);
    const { reply, calls, count, message, rows, state, spent } = paused;
    this.#count = count;
    this.#message = message;
    this.#rows.push(...rows);
    this.spent = spent;
    const row = templateOfReply(editedData(paused, decisions), reply.messageId, this.#note(reply.hint));
    const answers = new Map<string, JsonObject>();
    const open: Open = { rows: [fillTemplate(row, 0)], calls: new Map() };
    for (const [i, { callId, messageId, hint }] of calls.entries()) {
      const answer = decisions[i]?.answer;
      if (answer === undefined) {
        open.calls.set(callId, { messageId, hint, number: i + 1 });
        open.rows.push(null);
      } else {
        answers.set(callId, answer);
        open.rows.push(fillTemplate(templateOfAnswer(answer, messageId, this.#note(hint)), 0));
      }
    }
    this.#open = open;
    this.#lost = this.#standIns(calls, lostAnswer);
    return { rows: [...rows, fillTemplate(row, 0)], answers, state };
  }

  /** Where the step is whole, its rows are the run's. */
  #close(): void {
    if (this.#open.calls.size > 0) return;
    this.#rows.push(...this.#open.rows.filter((row) => row !== null));
    this.#open = { rows: [], calls: new Map() };
  }

  /** `standIn`: for answers that are not there when the run ends. */
  #stepOf({ data, calls }: Step, standIn: string) {
    const { messageId, hint } = this.#message;
    const row = templateOfReply(data, messageId, this.#note(hint));
    const next = this.#next(hint + calls.length + 1);
    const places = calls.map(({ callId, name }, i) => {
      const id = `${this.#turn.state.replyMessageId}.${this.#count}.${i + 1}`;
      return { callId, name, messageId: id, hint: hint + i + 1 };
    });
    const partial = templateOfPartial(next.messageId, this.#note(next.hint));
    const opened = { row, calls: this.#standIns(places, standIn), next: { ...next, partial } } satisfies OpenStep;
    return { opened, places };
  }

  #standIns(calls: readonly CallPlace[], content: string): readonly LostCall[] {
    return calls.map(({ callId, name, messageId, hint }) => ({
      callId,
      lost: templateOfAnswer(unanswered(callId, name, content), messageId, this.#note(hint)),
    }));
  }

  /** The text of the message alone, as a row. */
  #said(text: string): RowTemplate | null {
    if (text === "") return null;
    const { messageId, hint } = this.#message;
    const { head, middle, tail } = templateOfPartial(messageId, this.#note(hint));
    return { head: head + escapeFragment(text) + middle, tail };
  }

  #next(hint: number): Message {
    const messageId = `${this.#turn.state.replyMessageId}.${this.#count + 1}`;
    return { messageId, hint, localId: namedLocalId(hint, messageId) };
  }

  #note(hint: number): RowNote {
    const { historyKey, runId } = this.#turn;
    return { session: sessionTag(historyKey), runId, hint, createdAt: this.#now() };
  }
}

/** The `data` of the row that stands in for an answer which is lost. */
export function lostAnswerTo(callId: string, name: string): JsonObject {
  return unanswered(callId, name, lostAnswer);
}

function unanswered(callId: string, name: string, content: string): JsonObject {
  return { content, tool_call_id: callId, name, status: "error" };
}

/** What a row holds: of a message as LangChain made it, without what is no JSON. */
function dataOf(row: RowTemplate): JsonObject {
  return objectOrEmpty(objectOrEmpty(parseJson(fillTemplate(row, 0)))["data"]);
}
