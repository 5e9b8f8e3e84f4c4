import type { ChatTransport, FinishReason, InferUIMessageChunk } from "ai";

import type { ParleyClient } from "../client.ts";
import { ParleyError } from "../error.ts";
import type { Block, ChatMessage } from "../message.ts";
import type { RunInfo } from "../run.ts";
import type { SendOptions, SessionStore } from "../session.ts";
import { ready } from "./ready.ts";
import { metadataOf, toContent, toUIMessages } from "./ui-message.ts";
import type { ParleyMetadata, ParleyUIMessage } from "./ui-message.ts";

export { toContent, toUIMessages };
export type { ParleyMetadata, ParleyUIMessage };

export interface ParleyTransportOptions {
  /**
   * Whether stop() of useChat stops the reply, for everybody. Left out, it only leaves the stream, because useChat calls stop() also when
   * its component goes; what stops a reply then is `client.session(chatId).cancel()`.
   */
  readonly cancelOnAbort?: boolean;
}

type Chunk = InferUIMessageChunk<ParleyUIMessage>;

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
    replyStream(store, run, { signal, cancelOnAbort });

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
        if (message?.role !== "user") throw new Error("A reply of Parley's takes no tool outputs or approvals.");
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
  return store.regenerate(message.id, options);
}

const finishReasons: Record<NonNullable<ChatMessage["finishReason"]>, FinishReason> = {
  ...{ STOP: "stop", CANCELLED: "stop", LENGTH: "length", CONTENT_FILTER: "content-filter" },
  ...{ TOOL_CALLS: "tool-calls", OTHER: "other" },
};

interface StreamOptions {
  readonly signal: AbortSignal | undefined;
  readonly cancelOnAbort: boolean;
}

/** The reply of a run from its first character on, whenever one begins to listen. */
function replyStream(store: SessionStore, run: RunInfo, options: StreamOptions): ReadableStream<Chunk> {
  const { signal, cancelOnAbort } = options;
  let stop: () => void = () => undefined;
  return new ReadableStream<Chunk>({
    start(controller) {
      const writer = new ReplyWriter((chunk) => controller.enqueue(chunk), run.replyId);
      let isOver = false;
      const end = (...chunks: readonly Chunk[]) => {
        if (isOver) return;
        stop();
        writer.end();
        for (const chunk of chunks) controller.enqueue(chunk);
        controller.close();
      };
      const abort = () => {
        // That a reply has ended by itself in this moment is no fault.
        if (cancelOnAbort) store.cancel(run.id).catch(() => undefined);
        end({ type: "abort" });
      };
      const reply = () => store.getSnapshot().messages.find(({ id }) => id === run.replyId);
      const look = () => {
        const message = reply();
        if (message !== undefined) writer.write(message);
        const { connection, error } = store.getSnapshot();
        if (connection === "closed") end({ type: "error", errorText: error?.message ?? "The stream has ended." });
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
      void store.settled(run.id).then(({ status }) => {
        if (isOver) return;
        look();
        const message = reply();
        if (status === "FAILED") {
          end({ type: "error", errorText: message?.error?.message ?? "The reply failed." });
        } else if (message === undefined) {
          end({ type: "abort" });
        } else {
          const finishReason = finishReasons[message.finishReason ?? "STOP"];
          end({ type: "finish-step" }, { type: "finish", finishReason, messageMetadata: metadataOf(message) });
        }
      });
    },
    cancel: () => stop(),
  });
}

type Streamed = Extract<Block, { readonly type: "text" | "reasoning" }>;

/** Writes how a reply grows. */
class ReplyWriter {
  readonly #put: (chunk: Chunk) => void;
  readonly #id: string;
  #hasBegun = false;
  #isWhole = false;
  /** As they were written; the last one is open. */
  #blocks: Streamed[] = [];

  constructor(put: (chunk: Chunk) => void, id: string) {
    this.#put = put;
    this.#id = id;
  }

  write(message: ChatMessage): void {
    if (this.#isWhole) return;
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      this.#put({ type: "start", messageId: this.#id, messageMetadata: metadataOf(message) });
      this.#put({ type: "start-step" });
    }
    const blocks = message.content.filter((block) => block.type === "text" || block.type === "reasoning");
    const goesOn = this.#blocks.every(({ type, text }, index) => {
      const block = blocks[index];
      return block?.type === type && block.text.startsWith(text);
    });
    if (!goesOn) {
      // It is stored in another form than it was streamed in.
      this.end();
      this.#put({ type: "reset-step" });
    }
    blocks.forEach((block, index) => this.#grow(block, index));
    if (message.status !== "stored") return;
    this.#isWhole = true;
    for (const part of toUIMessages([message])[0]?.parts ?? []) this.#writePart(part);
  }

  end(): void {
    const last = this.#blocks.at(-1);
    if (last !== undefined) this.#put({ type: `${last.type}-end`, id: String(this.#blocks.length - 1) });
    this.#blocks = [];
  }

  #grow(block: Streamed, index: number): void {
    const { type, text } = block;
    const id = String(index);
    const before = this.#blocks[index];
    if (before === undefined) {
      const last = this.#blocks.at(-1);
      if (last !== undefined) this.#put({ type: `${last.type}-end`, id: String(index - 1) });
      this.#put({ type: `${type}-start`, id });
    }
    const delta = text.slice(before?.text.length ?? 0);
    if (delta !== "") this.#put({ type: `${type}-delta`, id, delta });
    this.#blocks[index] = block;
  }

  /** What is there only when the reply is whole. */
  #writePart(part: ParleyUIMessage["parts"][number]): void {
    if (part.type === "source-url" || part.type === "data-block") this.#put(part);
    if (part.type === "file") this.#put({ type: "file", url: part.url, mediaType: part.mediaType });
    if (part.type !== "dynamic-tool") return;
    const { toolCallId, toolName, input, providerExecuted = false } = part;
    this.#put({ type: "tool-input-available", toolCallId, toolName, input, providerExecuted, dynamic: true });
    if (part.state !== "output-available") return;
    this.#put({ type: "tool-output-available", toolCallId, output: part.output, providerExecuted, dynamic: true });
  }
}
