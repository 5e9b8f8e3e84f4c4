import { ParleyError } from "../../../conversation/errors.ts";
import { requireScope } from "../../../conversation/conversations/access.ts";
import type { Caller } from "../../../conversation/conversations/api.ts";
import type { Conversations } from "../../../conversation/conversations/conversations.ts";
import type { SessionEvent } from "../../../conversation/events.ts";
import { isFinal } from "../../../conversation/run.ts";
import type { Run } from "../../../conversation/run.ts";
import type { Session } from "../../../conversation/session.ts";
import type { Exchange } from "../../../operations/exchange.ts";
import { untilExpiry, watchExpiry } from "../../../operations/expiry.ts";
import { refusal, withStatus } from "../../../operations/refusals.ts";
import type { TransportParts } from "../../parts.ts";
import { isJson, parseJson } from "../http.ts";
import type { AnswerOperation, OperationCall } from "../http.ts";
import { refusalAnswer } from "../plain-answer.ts";
import { sseHeaders } from "../sse.ts";
import { streamBody } from "../streams.ts";
import { parseRunInput } from "./input.ts";
import type { RunInput } from "./input.ts";
import { RunWriter } from "./run-writer.ts";
import type { AgUiEvent } from "./run-writer.ts";
import {
  interruptsOf,
  newestMessages,
  sessionIdOf,
  snapshotOf,
  storedIdsOf,
  takeAnswers,
  takeQuestion,
  takeResults,
  waitsForPage,
} from "./thread.ts";

export const agUiPath = "/ag-ui";

/**
 * AG-UI's endpoint: RunAgentInput in, its events out. The client's newest message is sent; without one the thread is shown,
 * with the reply that is being made. The run goes on when the client leaves, unless its header `parley-on-close` is `cancel`.
 */
export function createAgUiAnswers(parts: TransportParts, conversations: Conversations): AnswerOperation {
  const { mask, telemetry, limits } = parts;
  return async (call, exchange) => {
    try {
      const input = parseRunInput(bodyOf(call));
      const { viewer } = await exchange.identity();
      const isReading = input.question === null && input.resume.length + input.results.length === 0;
      requireScope(viewer, isReading ? "chat:read" : "chat:write");
      const caller: Caller = {
        ...{ viewer, signal: exchange.signal, userToken: exchange.userToken },
        whileWaiting: (work) => exchange.whileWaiting(work),
      };
      const thread = new Thread(conversations, caller, input);
      const events = await thread.open(exchange, call.headers.get("parley-on-close") === "cancel");
      const streamEnded = telemetry.streamOpened();
      const expiry = watchExpiry(exchange, exchange.end);
      const comment = ":\n\n";
      const framing = {
        ...{ opening: comment, closing: "", keepAlive: { comment, everyMs: limits.keepAliveMs } },
        result: (event: unknown) => `data: ${JSON.stringify(event)}\n\n`,
      };
      const body = streamBody(untilExpiry(events, expiry), framing, exchange.signal, () => {
        expiry.stop();
        streamEnded();
        exchange.end();
      });
      return new Response(body, { headers: sseHeaders });
    } catch (error) {
      return refusalAnswer(withStatus(mask(error)));
    }
  };
}

function bodyOf({ method, headers, body }: OperationCall): unknown {
  if (method !== "POST") throw refusal(405, "BAD_REQUEST", "Use POST.", { allow: "POST, OPTIONS" });
  if (!isJson(headers.get("content-type"))) {
    throw refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Send the input as a POST with content-type application/json.");
  }
  return parseJson(body ?? "", "The request body");
}

/** One run of AG-UI's, over a session. */
class Thread {
  readonly #conversations: Conversations;
  readonly #caller: Caller;
  readonly #input: RunInput;
  readonly #sessionId: string;
  readonly #writer: RunWriter;
  /** What is to be written before anything more is read. */
  #events: AgUiEvent[] = [];
  /** The run that is shown. */
  #runId: string | null = null;
  #isOver = false;
  /** The page's tools do not reach the model. */
  #ignoresTools = false;

  constructor(conversations: Conversations, caller: Caller, input: RunInput) {
    this.#conversations = conversations;
    this.#caller = caller;
    this.#input = input;
    this.#sessionId = sessionIdOf(caller.viewer, input.threadId);
    this.#writer = new RunWriter(this.#sessionId, (event) => this.#events.push(event));
  }

  /** Sends what there is to send, and resolves once nothing of its run can be missed. */
  async open(exchange: Exchange, cancelOnClose: boolean): Promise<AsyncIterator<AgUiEvent, unknown>> {
    const { question, resume, results, tools } = this.#input;
    const { viewer, signal } = this.#caller;
    if (results.length > 0) {
      this.#runId = await takeResults(this.#conversations, this.#caller, this.#sessionId, this.#input);
    }
    if (resume.length > 0) {
      this.#runId = await takeAnswers(this.#conversations, this.#caller, this.#sessionId, this.#input);
    }
    if (question !== null) {
      const input = { ...this.#input, question };
      const { run, takesTools } = await takeQuestion(this.#conversations, this.#caller, this.#sessionId, input);
      this.#runId = run.runId;
      this.#ignoresTools = tools.length > 0 && !takesTools;
    }
    if (cancelOnClose) exchange.onEnd(() => this.#cancel());
    const follow = () =>
      this.#conversations.sessionEvents(viewer, this.#sessionId, null, "REFUSE", newestMessages, signal);
    const live = await follow().catch((error: unknown) => {
      // A thread that has yet to begin is empty.
      if (question === null && error instanceof ParleyError && error.code === "NOT_FOUND") return null;
      throw error;
    });
    return this.#run(live);
  }

  /** When the client leaves in mid-reply. That a reply has ended by itself in this moment is no fault. */
  #cancel(): void {
    if (this.#isOver || this.#runId === null) return;
    this.#conversations.cancelRun(this.#caller.viewer, this.#sessionId, this.#runId).catch(() => undefined);
  }

  async *#run(live: AsyncIterable<SessionEvent> | null): AsyncGenerator<AgUiEvent, void> {
    const { threadId, runId } = this.#input;
    yield { type: "RUN_STARTED", threadId, runId };
    if (this.#ignoresTools) yield { type: "CUSTOM", name: "parley_ignored", value: ["tools"] };
    if (live === null) {
      yield { type: "MESSAGES_SNAPSHOT", messages: [] };
      this.#finish({ type: "success" });
    } else {
      for await (const event of live) {
        await this.#take(event);
        yield* this.#events.splice(0);
        if (this.#isOver) return;
      }
    }
    yield* this.#events.splice(0);
  }

  async #take(event: SessionEvent): Promise<void> {
    switch (event.kind) {
      case "opened":
        if (this.#input.question === null) {
          this.#snapshot(event.session);
          this.#runId ??= event.session.activeRun?.runId ?? null;
        }
        await this.#show(event.session);
        break;
      case "reset":
        this.#snapshot(event.session);
        await this.#show(event.session);
        break;
      case "progress":
      case "partAdded":
      case "partProgress":
      case "partChanged":
        if (event.runId === this.#runId) this.#writer.event(event);
        break;
      case "run":
        if (event.run.runId === this.#runId) this.#showRun(event.run);
        break;
      case "removed":
        this.#fail("NOT_FOUND", "The session is gone.");
        break;
      // Messages come as parts of the run, and settings are not AG-UI's.
      case "waiting":
      case "message":
      case "updated":
    }
  }

  #snapshot(session: Session): void {
    const [page] = session.pages;
    if (page instanceof Error) throw page;
    this.#events.push({ type: "MESSAGES_SNAPSHOT", messages: snapshotOf(session) });
    this.#writer.passOver(storedIdsOf(session));
    if (session.lastRun !== null) this.#showState(session.lastRun);
  }

  /** The object that an agent with a `responseFormat` has replied is the thread's state. */
  #showState({ isStructured, text }: Run): void {
    if (isStructured) this.#events.push({ type: "STATE_SNAPSHOT", snapshot: JSON.parse(text) as unknown });
  }

  /** The run as a reading of the session has it. */
  async #show({ activeRun, queuedRuns, lastRun }: Session): Promise<void> {
    const id = this.#runId;
    if (id === null) {
      this.#finish({ type: "success" });
      return;
    }
    const run =
      [activeRun, ...queuedRuns, lastRun].find((one) => one?.runId === id) ??
      (await this.#conversations.readRun(this.#caller.viewer, this.#sessionId, id));
    if (run === null) this.#fail("NOT_FOUND", "The run is gone.");
    else this.#showRun(run);
  }

  #showRun(run: Run): void {
    this.#writer.run(run);
    const interrupts = interruptsOf(run);
    if (interrupts.length > 0) this.#finish({ type: "interrupt", interrupts });
    // The page carries its calls out, and runs again with what came of them.
    else if (waitsForPage(run)) this.#finish({ type: "success" });
    if (!isFinal(run.status)) return;
    this.#showState(run);
    // Before 1.0 a run that was stopped has ended like any other.
    const isTold = run.status === "CANCELLED" && this.#input.protocolVersion !== null;
    if (run.error === null) this.#finish({ type: isTold ? "cancelled" : "success" });
    else this.#fail(run.error.code, run.error.message);
  }

  #finish(outcome: { readonly type: string; readonly [field: string]: unknown }): void {
    const { threadId, runId } = this.#input;
    this.#writer.end();
    this.#events.push({ type: "RUN_FINISHED", threadId, runId, outcome });
    this.#isOver = true;
  }

  #fail(code: string, message: string): void {
    this.#writer.end();
    this.#events.push({ type: "RUN_ERROR", message, code });
    this.#isOver = true;
  }
}
