import { LLMChain } from "@langchain/classic/chains";
import { ConversationSummaryMemory } from "@langchain/classic/memory";
import { AIMessage, getBufferString, type BaseMessage } from "@langchain/core/messages";

import type { RunErrorCode } from "../conversation/run.ts";
import type { Span } from "../conversation/ports/telemetry.ts";
import { failureOf } from "./models/failure.ts";
import type { LoadedModel } from "./models/models.ts";
import { linesOf } from "./offline/offline.ts";
import { offlineSummary } from "./offline/offline-text.ts";
import { withoutMedia } from "./history/media.ts";
import { withoutReasoning } from "./reasoning.ts";
import { messageOfRow } from "./history/rows.ts";
import { clip, textOfMessage } from "./text.ts";
import type { TokenCounter } from "./models/tokens.ts";
import { watched } from "./models/watched.ts";

/** The part of maxTokens that the summary may take; the rows have the rest. */
export function summaryTokens(maxTokens: number): number {
  return Math.floor(maxTokens / 4);
}

const maxCharsAMessage = 4000;
const maxCharsACall = 24_000;
/** Where more was said than that, the oldest of it is left out: the cost of a summary stays bounded. */
const maxCalls = 4;

export interface SummaryWork {
  readonly model: LoadedModel;
  readonly summary: string | null;
  /** Stored rows, oldest first: those that the summary does not cover. */
  readonly rows: readonly string[];
  readonly maxTokens: number;
  readonly counter: TokenCounter;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** At each call of the model. */
  readonly beginCall: () => Span;
  readonly onFailed: (code: RunErrorCode, thrown: unknown) => void;
}

/** null: all fits still, or the model failed (the next turn tries again). */
export async function makeSummary(
  work: SummaryWork,
): Promise<{ readonly text: string; readonly covered: number } | null> {
  const covered = rowsToCover(work);
  if (covered === 0) return null;
  const { messages } = withoutMedia(work.rows.slice(0, covered).flatMap((row) => messageOfRow(row)?.message ?? []));
  const text = work.model.isOffline
    ? offlineSummary(work.summary, linesOf(messages))
    : await summaryByModel(work, messages);
  const limit = summaryTokens(work.maxTokens);
  return text === null || text === "" ? null : { text: work.counter.clipText(text, limit), covered };
}

/**
 * 0 while the rows fit. Else so many that the rest fits half of the room: with just enough, each turn from then on would
 * call the model for a summary. What stays begins with a turn, where there is one.
 */
function rowsToCover({ rows, summary, maxTokens, counter }: SummaryWork): number {
  const limit = summaryTokens(maxTokens);
  const room = maxTokens - (summary === null ? 0 : Math.min(limit, counter.countText(summary, limit)));
  const half = Math.floor(maxTokens / 2);
  let tokens = 0;
  let keepFrom = rows.length;
  let firstTurn = rows.length;
  for (let index = rows.length - 1; index >= 0; index -= 1) {
    const row = messageOfRow(rows[index] ?? "");
    if (row !== null) tokens += counter.countMessage(row.message, room - tokens);
    if (tokens <= half) {
      keepFrom = index;
      if (row?.role === "USER") firstTurn = index;
    }
    if (tokens > room) return firstTurn < rows.length ? firstTurn : keepFrom;
  }
  return 0;
}

async function summaryByModel(work: SummaryWork, messages: readonly BaseMessage[]): Promise<string | null> {
  const { chat } = work.model;
  // LangChain's own prompt. Its predictNewSummary takes no signal, so its chain is made here.
  const { prompt } = new ConversationSummaryMemory({ llm: chat });
  let summary = withoutReasoning(work.summary ?? "");
  for (const new_lines of batchesOf(messages)) {
    const span = work.beginCall();
    const end = await watched(work.signal, work.timeoutMs, (signal) =>
      span.inside(() => new LLMChain({ llm: chat, prompt }).invoke({ summary, new_lines, signal })),
    );
    if (end.kind !== "done") {
      const thrown = end.kind === "threw" ? end.error : undefined;
      const code = end.kind === "threw" ? failureOf(thrown, false).code : "MODEL_TIMEOUT";
      span.end(code);
      work.onFailed(code, thrown);
      return null;
    }
    span.end("OK");
    const text: unknown = end.value["text"];
    const said = typeof text === "string" ? withoutReasoning(text).trim() : "";
    if (said === "") return null;
    summary = said;
  }
  return summary;
}

/** A reply without its reasoning, of which a summary would otherwise be made too. */
function spoken(message: BaseMessage): BaseMessage {
  if (!AIMessage.isInstance(message)) return message;
  const { tool_calls = [], name } = message;
  const content = withoutReasoning(textOfMessage(message));
  return new AIMessage({ content, tool_calls, ...(name === undefined ? {} : { name }) });
}

function batchesOf(messages: readonly BaseMessage[]): string[] {
  const batches: string[] = [];
  let batch = "";
  for (const message of messages) {
    const line = clip(getBufferString([spoken(message)]), maxCharsAMessage);
    if (batch !== "" && batch.length + line.length >= maxCharsACall) {
      batches.push(batch);
      batch = "";
    }
    batch += batch === "" ? line : `\n${line}`;
  }
  return (batch === "" ? batches : [...batches, batch]).slice(-maxCalls);
}
