import { randomUUID } from "node:crypto";
import { namedLocalId, sessionTag } from "../message/ids.ts";
import { templateOfAnswer, templateOfPartial, templateOfReply, type RowNote } from "../message/stored-message.ts";
import type { Answer, Step, Steps } from "../ports/model.ts";
import type { SessionStore, StartedTurn } from "../ports/store.ts";
import type { ReplyStream } from "./reply-stream.ts";

/** Said by the row that stands in for an answer which is lost: the model and the user are to know that there may be an effect. */
const lostAnswer = "The call was begun and its result was lost: it may or may not have taken effect.";

interface Message {
  readonly messageId: string;
  /** The position that is expected of it, part of its id. */
  readonly hint: number;
  readonly localId: string;
}

/**
 * The messages of a run, one after another, and the steps that end them:
 *
 *     message ──(open: its calls are claimed)──▶ step is open ──(answer, of each call)──▶ next message
 *        └──(it calls no tool)──▶ the run's reply
 *
 * The n-th message of a run has the id <id of the reply>.<n>, the first one the id itself; the k-th answer <…>.<n>.<k>.
 */
export class RunSteps implements Steps {
  readonly #turn: StartedTurn;
  readonly #stream: ReplyStream;
  readonly #store: Pick<SessionStore, "step" | "answer">;
  readonly #now: () => number;
  #count = 0;
  #message: Message;
  /** The calls of the open step, each with the id and the hint of its answer. */
  #calls = new Map<string, Omit<Message, "localId"> & { readonly number: number }>();

  constructor(turn: StartedTurn, stream: ReplyStream, store: Pick<SessionStore, "step" | "answer">, now: () => number) {
    this.#turn = turn;
    this.#stream = stream;
    this.#store = store;
    this.#now = now;
    const { replyMessageId: messageId, replyHint: hint } = turn.state;
    this.#message = { messageId, hint, localId: turn.run.replyLocalId };
  }

  /** What is being made. */
  get message(): Message {
    return this.#message;
  }

  async open({ data, calls }: Step): Promise<boolean> {
    const { messageId, hint } = this.#message;
    const row = templateOfReply(data, messageId, this.#note(hint));
    const next = this.#next(hint + calls.length + 1);
    const answers = calls.map(({ callId, name }, i) => {
      const id = `${this.#turn.state.replyMessageId}.${this.#count}.${i + 1}`;
      const place = { messageId: id, hint: hint + i + 1, number: i + 1 };
      const lost = { content: lostAnswer, tool_call_id: callId, name, status: "error" };
      return { callId, place, lost: templateOfAnswer(lost, id, this.#note(place.hint)) };
    });
    const partial = templateOfPartial(next.messageId, this.#note(next.hint));
    const step = { row, calls: answers, next: { ...next, partial } };
    const isOpen = await this.#stream.write(
      (log) => this.#store.step(this.#turn, step, log),
      () => this.#stream.endMessage(),
    );
    if (!isOpen) return false;
    this.#count += 1;
    this.#message = next;
    this.#calls = new Map(answers.map(({ callId, place }) => [callId, place]));
    return true;
  }

  async answer({ callId, data, change }: Answer): Promise<boolean> {
    const call = this.#calls.get(callId);
    if (call === undefined) throw new Error("There is no such call in the open step");
    this.#calls.delete(callId);
    const { messageId, hint, number } = call;
    const row = templateOfAnswer(data, messageId, this.#note(hint));
    const op = `i:${randomUUID()}`;
    return await this.#stream.write(
      (log) => this.#store.answer(this.#turn, { number, row }, log, op),
      () => this.#stream.add({ kind: "change", callId, change }),
    );
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
