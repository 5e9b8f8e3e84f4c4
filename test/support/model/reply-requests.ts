import { createServer } from "node:net";

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";

import type { Piece, ReplyOutcome, ReplyRequest, Steps } from "../../../src/conversation/ports/model.ts";
import { createReplies, type LangChainReplies, type RepliesOptions } from "../../../src/langchain/replies.ts";
import { secretOfErrors } from "./openai-server.ts";

export const model = "openai:gpt-test";
export const human = (content: unknown): string => JSON.stringify({ type: "human", data: { content } });
export const ai = (content: string): string => JSON.stringify({ type: "ai", data: { content } });
/** As rows are that Parley has written. */
export function own(row: string): string {
  const { type, data } = JSON.parse(row) as { type: string; data: object };
  const parley = { session: "s", position: 0, run: null, hint: null };
  return JSON.stringify({ type, data: { ...data, response_metadata: { parley } } });
}
export const system = (content: string): string => JSON.stringify({ type: "system", data: { content } });

/** Replies by the real ChatOpenAI against the server at `baseUrl`, without retries. */
export function repliesAt(baseUrl: string, other: Partial<RepliesOptions> = {}): LangChainReplies {
  return createReplies({
    defaultModel: model,
    models: [],
    openai: { apiKey: secretOfErrors, baseUrl, temperature: null, maxRetries: 0 },
    timeoutMs: 20_000,
    memoryDefaults: { maxTurns: 10, maxTokens: 2000 },
    offlineWordDelayMs: 0,
    ...other,
  });
}

/** Of what calls no tools. */
export const noSteps: Steps = {
  open: () => Promise.reject(new Error("A step")),
  wait: () => Promise.reject(new Error("A step that waits")),
  claim: () => Promise.reject(new Error("A claim")),
  answer: () => Promise.reject(new Error("An answer")),
};

export function requestOf(other: Partial<ReplyRequest> = {}): ReplyRequest {
  return {
    runId: "a-run",
    model,
    instructions: null,
    systemPrompt: null,
    memory: { strategy: "BUFFER", maxTurns: null, maxTokens: null },
    summary: null,
    rows: [],
    input: human("hello"),
    signal: new AbortController().signal,
    emit: () => undefined,
    steps: noSteps,
    pageTools: [],
    userToken: null,
    resumed: null,
    ...other,
  };
}

/** Of a piece of text or reasoning; "" of any other. */
export function textOfPiece(piece: Piece): string {
  return piece.kind === "text" || piece.kind === "reasoning" ? piece.text : "";
}

export async function runReply(replies: LangChainReplies, other: Partial<ReplyRequest>) {
  const tokens: string[] = [];
  const outcome = await replies.reply(
    requestOf({ emit: (piece) => piece.kind === "text" && tokens.push(piece.text), ...other }),
  );
  return { outcome, tokens };
}

export function completedOf(outcome: ReplyOutcome) {
  if (outcome.kind !== "completed") throw new Error(`Not completed: ${JSON.stringify(outcome)}`);
  return outcome;
}

/** A port that nobody listens at. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Streams the pieces. With `whole`, that is what its message holds in the end instead. */
export class ScriptedModel extends BaseChatModel {
  readonly #pieces: () => Iterable<string | Promise<string>>;
  readonly #whole: string | null;

  constructor(pieces: () => Iterable<string | Promise<string>>, whole: string | null = null) {
    super({});
    this.#pieces = pieces;
    this.#whole = whole;
  }

  override _llmType(): string {
    return "scripted";
  }

  override _generate(): Promise<ChatResult> {
    return Promise.reject(new Error("not streamed"));
  }

  override async *_streamResponseChunks(
    _messages: BaseMessage[],
    _options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    for (const piece of this.#pieces()) {
      const text = await piece;
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk(text) });
      if (this.#whole === null) yield chunk;
      await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
    if (this.#whole !== null)
      yield new ChatGenerationChunk({ text: this.#whole, message: new AIMessageChunk(this.#whole) });
  }
}

/** Cannot stream. */
export class WholeModel extends BaseChatModel {
  override _llmType(): string {
    return "whole";
  }

  constructor() {
    super({});
  }

  override _generate(): Promise<ChatResult> {
    const text = "all at once";
    return Promise.resolve({ generations: [{ text, message: new AIMessage(text) }] });
  }
}
