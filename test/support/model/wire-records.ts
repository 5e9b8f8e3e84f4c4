import type { ReplyOutcome } from "../../../src/conversation/ports/model.ts";
import type { Raw } from "./openai-server.ts";

/** A chunk of a chat completion. `delta` undefined: there is none. */
export function chunk(delta: unknown, finish_reason: unknown = null, more: object = {}): object {
  const choice = { index: 0, ...(delta === undefined ? {} : { delta }), finish_reason };
  return { id: "chatcmpl-x", object: "chat.completion.chunk", created: 1, model: "m", choices: [choice], ...more };
}

/** A chunk that has only a usage. */
export function usageChunk(usage: unknown): object {
  return { ...chunk({}), choices: [], usage };
}

export const done = "data: [DONE]\n\n";
export const hello = [chunk({ role: "assistant", content: "Hel" }), chunk({ content: "lo" })];

/** Objects are records; strings and bytes go as they are. */
export function events(...parts: readonly (object | string | Uint8Array)[]): Raw {
  return {
    kind: "raw",
    parts: parts.map((part) =>
      typeof part === "string" || part instanceof Uint8Array || "waitMs" in part ? (part as string) : record(part),
    ),
  };
}

export function record(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

export function json(body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Raw {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return { kind: "raw", status, headers: { "content-type": "application/json", ...headers }, parts: [text] };
}

/** What tests compare of how a reply ended. */
export function endOf(outcome: ReplyOutcome): object {
  if (outcome.kind === "failed") return { code: outcome.error.code };
  if (outcome.kind !== "completed") return { kind: outcome.kind };
  const metadata = outcome.data["response_metadata"];
  const finish =
    typeof metadata === "object" && metadata !== null && "finish_reason" in metadata ? metadata.finish_reason : null;
  return { text: outcome.text, finish };
}
