import type { BaseMessage } from "@langchain/core/messages";
import type { Tiktoken } from "js-tiktoken/lite";

import { clip } from "../text.ts";

/** Counts as OpenAI's newer models do; other providers' counts are near enough for a limit. */
export type TokenCounter = ReturnType<typeof tokenCounter>;

let loading: Promise<TokenCounter> | null = null;

/** The ranks come with the package, so nothing is fetched. Building them takes about half a second, once a process. */
export function loadTokenCounter(): Promise<TokenCounter> {
  loading ??= (async () => {
    const [{ Tiktoken }, { default: ranks }] = await Promise.all([
      import("js-tiktoken/lite"),
      import("js-tiktoken/ranks/o200k_base"),
    ]);
    return tokenCounter(new Tiktoken(ranks));
  })();
  return loading;
}

/** What OpenAI's chat format adds to each message. */
const tokensAMessage = 4;
/**
 * Of an image of 1024 x 1024 at high detail, as OpenAI charges it. What a block really costs depends on its size, which
 * only fetching it would tell; its base64 text is far from what the model counts.
 */
const tokensABlock = 765;

/**
 * A run of one kind without a break in it is one piece to the encoder, and its time grows with the square of the piece
 * (a second for 1,000 Chinese characters), so that one message could stop the process. Longer runs are estimated.
 */
const longRun = /([\p{L}\p{M}]{25,}|\s{25,}|[^\s\p{L}\p{M}\p{N}]{25,})/u;
const sliceChars = 2000;

function tokenCounter(encoder: Tiktoken) {
  /** Exact up to `limit`; beyond it only that it is more. */
  const countText = (text: string, limit: number): number => {
    let count = 0;
    for (let start = 0; start < text.length && count <= limit; start += sliceChars) {
      // Odd parts are the long runs, since the pattern captures them.
      for (const [index, part] of text
        .slice(start, start + sliceChars)
        .split(longRun)
        .entries()) {
        count += index % 2 === 1 ? estimate(part) : encoder.encode(part, [], []).length;
      }
    }
    return count;
  };

  const countMessage = (message: BaseMessage, limit: number): number => {
    const blocks = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
    let count = tokensAMessage;
    for (const block of blocks) {
      if (count > limit) return count;
      const text = block.type === "text" && "text" in block ? block.text : null;
      count += typeof text === "string" ? countText(text, limit - count) : tokensABlock;
    }
    if ("tool_calls" in message && Array.isArray(message.tool_calls) && message.tool_calls.length > 0) {
      count += countText(JSON.stringify(message.tool_calls), limit - count);
    }
    return count;
  };

  /** The beginning of the text, so that it counts at most `limit`. */
  const clipText = (text: string, limit: number): string => {
    let clipped = text;
    // Each round cuts by the share that is too much, and by one character at least.
    for (
      let count = countText(clipped, Infinity);
      clipped !== "" && count > limit;
      count = countText(clipped, Infinity)
    ) {
      clipped = clip(clipped, Math.min(clipped.length - 1, Math.floor((clipped.length * limit) / count)));
    }
    return clipped;
  };

  return { countText, countMessage, clipText };
}

/** On the high side, so that a limit holds: one token for two ASCII characters, or for three bytes of other scripts. */
function estimate(run: string): number {
  const bytes = Buffer.byteLength(run);
  return Math.ceil(bytes === run.length ? bytes / 2 : bytes / 3);
}
