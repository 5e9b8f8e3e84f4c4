import { HumanMessage, SystemMessage } from "@langchain/core/messages";

import type { RunError } from "../conversation/run.ts";
import { failureOf, runError } from "./failure.ts";
import type { LoadedModel } from "./models.ts";
import { offlineTitle } from "./offline-text.ts";
import { messageOfRow } from "./rows.ts";
import { clip, textOfMessage } from "./text.ts";
import { watched } from "./watched.ts";

/** A title is told by how a conversation begins, so that is all the model gets to see. */
const maxMessages = 8;
const maxCharsAMessage = 600;
const maxTitleChars = 80;

const prompt =
  "The user gives you the beginning of a conversation. Answer with a title for it and nothing else: two to six words, in the language of the conversation, without quotation marks and without a full stop.";

export interface TitleWork {
  readonly model: LoadedModel;
  /** Stored rows, oldest first. */
  readonly rows: readonly string[];
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

type TitleOutcome = { readonly title: string } | { readonly error: RunError };

/** At most 80 characters, in one line. */
export async function makeTitle({ model, rows, signal, timeoutMs }: TitleWork): Promise<TitleOutcome> {
  const lines = beginningOf(rows);
  const first = lines.find(({ isUser }) => isUser) ?? lines[0];
  if (first === undefined) {
    const message = "There is nothing in this conversation yet to make a title of.";
    return { error: runError("OTHER", { message, retryable: false }) };
  }
  if (model.isOffline) return titled(offlineTitle(first.text));
  const transcript = lines.map(({ isUser, text }) => `${isUser ? "User" : "Assistant"}: ${text}`).join("\n\n");
  const end = await watched(signal, timeoutMs, (inner) =>
    model.chat.invoke([new SystemMessage(prompt), new HumanMessage(transcript)], { signal: inner }),
  );
  switch (end.kind) {
    case "cancelled":
      return { error: runError("OTHER", { message: "Making a title was stopped." }) };
    case "timedOut":
      return { error: runError("MODEL_TIMEOUT") };
    case "threw":
      return { error: failureOf(end.error, false) };
    case "done":
      return titled(textOfMessage(end.value));
  }
}

interface Line {
  readonly isUser: boolean;
  readonly text: string;
}

function beginningOf(rows: readonly string[]): Line[] {
  const lines: Line[] = [];
  for (const row of rows) {
    const message = messageOfRow(row)?.message;
    if (message?.type !== "human" && message?.type !== "ai") continue;
    const text = clip(textOfMessage(message).trim(), maxCharsAMessage);
    if (text !== "") lines.push({ isUser: message.type === "human", text });
    if (lines.length === maxMessages) break;
  }
  return lines;
}

function titled(answer: string): TitleOutcome {
  const title = cleanTitle(answer);
  return title === "" ? { error: runError("OTHER", { message: "The model gave no title. Try again." }) } : { title };
}

/** Models quote, prefix and decorate titles although they were asked not to. */
export function cleanTitle(answer: string): string {
  const line = answer
    .replace(/[\s\p{Cc}]+/gu, " ")
    .trim()
    .replace(/^[#*_"'“”„«»‘’`\s]+/u, "")
    .replace(/^title:\s*/i, "")
    .replace(/^["'“„«‘`*]+/u, "")
    .replace(/["'“”„«»‘’`*_\s]+$/u, "")
    .replace(/\.$/, "");
  return clip(line, maxTitleChars);
}
