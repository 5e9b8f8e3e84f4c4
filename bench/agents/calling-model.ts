import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { AIMessageChunk, ToolMessage, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import { z } from "zod";

import { PacedModel } from "../model.ts";

/** Calls the tool once, with its arguments in pieces, and answers when it has the result. It streams for whoever asks. */
export class CallingModel extends PacedModel {
  #calls = 0;

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    if (ToolMessage.isInstance(messages.at(-1))) {
      yield* super._streamResponseChunks(messages, options, runManager);
      return;
    }
    const id = `call_${++this.#calls}`;
    for (const [i, args] of ['{"city":', '"Rome"', "}"].entries()) {
      const named = i === 0 ? { name: "weather", id } : {};
      const chunk = { ...named, index: 0, args, type: "tool_call_chunk" as const };
      const message = new AIMessageChunk({ content: "", tool_call_chunks: [chunk] });
      const generated = new ChatGenerationChunk({ text: "", message });
      yield generated;
      await runManager?.handleLLMNewToken("", undefined, undefined, undefined, undefined, { chunk: generated });
    }
    const generationInfo = { finish_reason: "tool_calls" };
    const message = new AIMessageChunk({ content: "", response_metadata: generationInfo });
    yield new ChatGenerationChunk({ text: "", message, generationInfo });
  }
}

export const weather = tool(({ city }) => `Sunny in ${city}.`, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string() }),
});
