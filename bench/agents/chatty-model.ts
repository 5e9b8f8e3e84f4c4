import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { AIMessageChunk, HumanMessage, ToolMessage, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

import { PacedModel } from "../model.ts";
import { machineMs } from "../orders.ts";

const steps = 4;
const pieces = 60;
const pieceMs = 2;

/** What a turn of it comes to: in each step reasoning, text, a call and what its tool tells; at last reasoning and text. */
export const partsOfTurn = steps * 6 + 2;

/** An agent's model that thinks, talks and calls a tool, in many pieces, four times, before it has answered. */
export class ChattyModel extends PacedModel {
  #calls = 0;

  constructor() {
    super({ tokens: 0, firstTokenMs: 0, tokenMs: 0 });
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const turn = messages.slice(messages.findLastIndex((message) => HumanMessage.isInstance(message)));
    const isLast = turn.filter((message) => ToolMessage.isInstance(message)).length >= steps;
    const startedAt = machineMs();
    for (const [i, message] of chunks(isLast ? null : `call_${++this.#calls}`).entries()) {
      // Held against the start, so that timers that come late don't add up.
      const waitMs = startedAt + i * pieceMs - machineMs();
      if (waitMs > 0) await sleep(waitMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
      const chunk = new ChatGenerationChunk({ text: message.text, message });
      yield chunk;
      await runManager?.handleLLMNewToken(chunk.text, undefined, undefined, undefined, undefined, { chunk });
    }
    const generationInfo = { finish_reason: isLast ? "stop" : "tool_calls" };
    const message = new AIMessageChunk({ content: [], response_metadata: generationInfo });
    yield new ChatGenerationChunk({ text: "", message, generationInfo });
  }
}

/** `callId` null: it calls nothing. */
function chunks(callId: string | null): readonly AIMessageChunk[] {
  const each = Array.from({ length: pieces }, (_, i) => i);
  const thinking = each.map(
    (i) => new AIMessageChunk({ content: [{ type: "reasoning", reasoning: `Hm ${i}, `, index: 0 }] }),
  );
  const talking = each.map((i) => new AIMessageChunk({ content: [{ type: "text", text: `word ${i} `, index: 1 }] }));
  const written = callId === null ? [] : ['{"lines":[', ...each.map((i) => `"line ${i}",`), '"end"]}'];
  const calling = written.map((args, i) => {
    const named = i === 0 && callId !== null ? { name: "note", id: callId } : {};
    return new AIMessageChunk({
      content: [],
      tool_call_chunks: [{ ...named, index: 0, args, type: "tool_call_chunk" }],
    });
  });
  return [...thinking, ...talking, ...calling];
}

/** Tells how far it is, and answers with more than a line. */
export const note = tool(
  ({ lines }, config) => {
    const { writer } = config as { readonly writer?: (data: unknown) => void }; // typed as any
    for (const part of [1, 2, 3]) writer?.({ part, of: 3 });
    return lines.join("\n").repeat(4);
  },
  { name: "note", description: "Notes lines.", schema: z.object({ lines: z.array(z.string()) }) },
);
