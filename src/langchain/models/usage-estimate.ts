import type { BaseMessage } from "@langchain/core/messages";

import { estimatedTokens } from "../../conversation/ports/quotas.ts";
import type { TokenUsage } from "../../conversation/message/message.ts";
import { textOfMessage } from "../text.ts";
import { loadTokenCounter } from "./tokens.ts";

/** Counting so many characters takes some ten milliseconds; what is beyond them is estimated by its length. */
const maxChars = 16_000;

/** What a call has cost, about, for providers that do not say. */
export async function estimatedUsage(messages: readonly BaseMessage[], reply: string): Promise<TokenUsage> {
  const { countMessage, countText } = await loadTokenCounter();
  let room = maxChars;
  const roomFor = (chars: number): boolean => {
    const fits = chars <= room;
    if (fits) room -= chars;
    return fits;
  };
  const outputTokens = roomFor(reply.length) ? countText(reply, Infinity) : estimatedTokens(reply.length);
  let inputTokens = 0;
  for (const message of messages.toReversed()) {
    const { length } = textOfMessage(message);
    inputTokens += roomFor(length) ? countMessage(message, Infinity) : estimatedTokens(length);
  }
  return { inputTokens, outputTokens, totalTokens: inputTokens + outputTokens };
}
