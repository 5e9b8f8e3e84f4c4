import type { ChatTransport, FinishReason } from "ai";

import type { ParleyClient } from "../client.ts";
import { ParleyError } from "../error.ts";
import type { ChatMessage } from "../message.ts";
import type { Approval, Decision, RunInfo } from "../run.ts";
import type { SendOptions, SessionStore } from "../session.ts";
import { ready } from "./ready.ts";
import { ReplyWriter } from "./reply-writer.ts";
import type { Chunk } from "./reply-writer.ts";
import { callsAreAnswered, decisionsIn, outputsIn, toContent, toUIMessages, uiMessageWith } from "./ui-message.ts";
import type { ParleyMetadata, ParleyUIMessage } from "./ui-message.ts";
import { waitsForSomebody } from "./waiting.ts";

export { callsAreAnswered, toContent, toUIMessages };
export type { ParleyMetadata, ParleyUIMessage };

export interface ParleyTransportOptions {
  /**
   * Whether stop() of useChat stops the reply, for everybody. Left out, it only leaves the stream, because useChat calls stop() also when
   * its component goes; what stops a reply then is `client.session(chatId).cancel()`.
   */
  readonly cancelOnAbort?: boolean;
}

/**
 * For useChat as it is: a chat's id is the session's, and the history stays the gateway's. For the history, other tabs and
 * older pages there is useParleyChat.
 */
export function createParleyTransport(
  client: ParleyClient,
  { cancelOnAbort = false }: ParleyTransportOptions = {},
): ChatTransport<ParleyUIMessage> {
  /** A message that is edited keeps its id in useChat, but is another one here. */
  const edited = new Map<string, string>();
  const idOf = (store: SessionStore, id: string) => {
    const known = edited.get(id) ?? id;
    return store.getSnapshot().messages.find((message) => message.id === known || message.messageId === known)?.id;
  };
  const streamOf = (store: SessionStore, run: RunInfo, signal: AbortSignal | undefined) =>
    replyStream(store, run, { signal, cancelOnAbort, known: undefined, decided: [] });

  return {
    resumeStreamIsReplay: true,
    async sendMessages({ trigger, chatId, messageId, messages, abortSignal, body }) {
      const store = client.session(chatId);
      const leave = store.subscribe(() => undefined);
      try {
        const options = sendOptionsOf(body);
        const message = messages.at(-1);
        let id: string | undefined;
        if (messageId !== undefined || trigger === "regenerate-message") {
          // What is edited or made anew is looked for among the newest messages.
          await ready(store, abortSignal);
          id = messageId === undefined ? undefined : idOf(store, messageId);
        }
        if (trigger === "regenerate-message") {
          const last = message?.role === "user" ? idOf(store, message.id) : undefined;
          return streamOf(store, await answerAgain(store, id ?? last, options), abortSignal);
        }
        if (message?.role === "assistant") {
          await ready(store, abortSignal);
          const { run, messages: shown } = store.getSnapshot();
          const decisions = run === null ? [] : decisionsIn(message, run.approvals);
          const outputs = run === null ? [] : outputsIn(message, run.approvals);
          if (run === null || decisions.length + outputs.length === 0)
            throw new Error("There is nothing that waits for it.");
          const known = uiMessageWith(shown, streaming(shown));
          const decided = run.approvals.filter(
            ({ callId }) =>
              decisions.some((decision) => isOn(decision, callId)) ||
              outputs.some((output) => output.callId === callId),
          );
          if (decisions.length > 0) await store.respond(decisions, run.id);
          for (const { callId, work } of outputs) await store.runTool(callId, work);
          return replyStream(store, run, { signal: abortSignal, cancelOnAbort, known, decided });
        }
        if (message?.role !== "user") throw new Error("There is no message to send.");
        const content = toContent(message);
        if (messageId === undefined) {
          return streamOf(store, await store.send(content, { messageId: message.id, ...options }), abortSignal);
        }
        const fresh = crypto.randomUUID();
        const run = await store.edit(id ?? messageId, content, { messageId: fresh, ...options });
        edited.set(message.id, fresh);
        return streamOf(store, run, abortSignal);
      } finally {
        leave();
      }
    },
    async reconnectToStream({ chatId, abortSignal }) {
      const store = client.session(chatId);
      const leave = store.subscribe(() => undefined);
      try {
        // What a server has rendered may show a reply that has ended by now.
        const { run: rendered } = store.getSnapshot();
        await ready(store, abortSignal);
        const run = store.getSnapshot().run ?? rendered;
        return run && streamOf(store, run, abortSignal);
      } finally {
        leave();
      }
    },
  };
}

/** `body` of useChat: `model` and `whenBusy` mean what they mean for `send`. */
export function sendOptionsOf(body: object = {}): Pick<SendOptions, "model" | "whenBusy"> {
  const { model, whenBusy } = body as Pick<SendOptions, "model" | "whenBusy">;
  return { ...(model === undefined ? {} : { model }), ...(whenBusy === undefined ? {} : { whenBusy }) };
}

/** Of a reply or the message that it answers; of a message that could not be sent it means to send it again. */
export function answerAgain(store: SessionStore, id: string | undefined, options: SendOptions): Promise<RunInfo> {
  const { messages } = store.getSnapshot();
  const message = id === undefined ? messages.at(-1) : messages.find((one) => one.id === id);
  if (message === undefined) {
    return Promise.reject(new ParleyError("NOT_FOUND", "That message is not in the chat any more."));
  }
  if (message.role === "USER" && message.status === "failed") return store.retry(message.id);
  // The last reply may have several steps.
  return store.regenerate(id, options);
}

const finishReasons: Record<NonNullable<ChatMessage["finishReason"]>, FinishReason> = {
  ...{ STOP: "stop", CANCELLED: "stop", LENGTH: "length", CONTENT_FILTER: "content-filter" },
  ...{ TOOL_CALLS: "tool-calls", OTHER: "other" },
};

interface StreamOptions {
  readonly signal: AbortSignal | undefined;
  readonly cancelOnAbort: boolean;
  /** The message that useChat has, which goes on. */
  readonly known: ParleyUIMessage | undefined;
  /** What it has waited for. */
  readonly decided: readonly Approval[];
}

/** The id of what is being made. */
function streaming(messages: readonly ChatMessage[]): string | undefined {
  return messages.findLast(({ status }) => status === "streaming")?.id;
}

function isOn(decision: Decision, callId: string): boolean {
  return Object.values(decision).some((one) => one.callId === callId);
}

/**
 * The reply of a run from its first character on, whenever one begins to listen; until it ends, or waits for somebody:
 * then useChat is ready for that.
 */
function replyStream(store: SessionStore, run: RunInfo, options: StreamOptions): ReadableStream<Chunk> {
  const { signal, cancelOnAbort, known, decided } = options;
  let stop: () => void = () => undefined;
  return new ReadableStream<Chunk>({
    start(controller) {
      const writer = new ReplyWriter((chunk) => controller.enqueue(chunk), known);
      let isOver = false;
      const goesOn = () => !isOver;
      const end = (...chunks: readonly Chunk[]) => {
        if (isOver) return;
        stop();
        writer.end();
        for (const chunk of chunks) controller.enqueue(chunk);
        controller.close();
      };
      const finish = ({ metadata }: ParleyUIMessage, finishReason: FinishReason) =>
        end(
          { type: "finish-step" },
          { type: "finish", finishReason, ...(metadata === undefined ? {} : { messageMetadata: metadata }) },
        );
      const abort = () => {
        // That a reply has ended by itself in this moment is no fault.
        if (cancelOnAbort) store.cancel(run.id).catch(() => undefined);
        end({ type: "abort" });
      };
      let id: string | undefined = run.replyId;
      const reply = () => {
        const { messages, run: now } = store.getSnapshot();
        // Of a run that waits it is the id of the message behind this one.
        const message =
          uiMessageWith(messages, id) ?? uiMessageWith(messages, now?.id === run.id ? streaming(messages) : id);
        id = message?.id ?? id;
        return message;
      };
      const look = () => {
        const message = reply();
        if (message !== undefined) writer.write(message);
        const { connection, error, run: now, acting } = store.getSnapshot();
        if (connection === "closed") end({ type: "error", errorText: error?.message ?? "The stream has ended." });
        if (message === undefined || now?.id !== run.id || now.status !== "WAITING") return;
        // What was decided on just now is told a moment later.
        const waiting = now.approvals.filter(({ callId }) => !decided.some((one) => one.callId === callId));
        if (waitsForSomebody({ run: { ...now, approvals: waiting }, acting })) finish(message, "tool-calls");
      };
      const leave = store.subscribe(look);
      stop = () => {
        isOver = true;
        leave();
        signal?.removeEventListener("abort", abort);
      };
      signal?.addEventListener("abort", abort);
      if (signal?.aborted === true) {
        abort();
        return;
      }
      look();
      if (!goesOn()) return;
      void store.settled(run.id).then(({ status }) => {
        if (isOver) return;
        look();
        const message = reply();
        if (status === "FAILED") {
          end({ type: "error", errorText: message?.metadata?.error?.message ?? "The reply failed." });
        } else if (message === undefined) {
          end({ type: "abort" });
        } else {
          finish(message, finishReasons[message.metadata?.finishReason ?? "STOP"]);
        }
      });
    },
    cancel: () => stop(),
  });
}
