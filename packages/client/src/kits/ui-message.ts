import type { UIMessage } from "ai";

import type { Block, ChatMessage, SentBlock } from "../message.ts";
import { answersOf, mimeTypeIn, sourcesIn } from "./blocks.ts";

// Parley's messages as the AI SDK shows them, and the other way round.

export interface ParleyMetadata {
  readonly createdAt: string | null;
  readonly status: ChatMessage["status"];
  readonly finishReason: ChatMessage["finishReason"];
  readonly error: ChatMessage["error"];
}

/** A block that the AI SDK has no part for is a part `data-block` with LangChain's own form of it. */
export type ParleyUIMessage = UIMessage<ParleyMetadata, { readonly block: Readonly<Record<string, unknown>> }>;

type Part = ParleyUIMessage["parts"][number];

const roles = { USER: "user", ASSISTANT: "assistant", SYSTEM: "system" } as const;

/** What tools answered goes into the calls that it answers. Messages in roles that the AI SDK does not have are left out. */
export function toUIMessages(messages: readonly ChatMessage[]): ParleyUIMessage[] {
  const answers = answersOf(messages);
  return messages.flatMap((message) => {
    const { role } = message;
    return role === "USER" || role === "ASSISTANT" || role === "SYSTEM"
      ? [toUIMessage(message, roles[role], answers)]
      : [];
  });
}

const made = new WeakMap<ChatMessage, { readonly answers: string; readonly uiMessage: ParleyUIMessage }>();

/** The same object for as long as neither the message nor what its tools answered changes. */
function toUIMessage(
  message: ChatMessage,
  role: ParleyUIMessage["role"],
  all: ReadonlyMap<string, ChatMessage>,
): ParleyUIMessage {
  const answers = message.toolCalls.map(({ callId }) => all.get(callId ?? "")?.id ?? "").join(" ");
  const before = made.get(message);
  if (before?.answers === answers) return before.uiMessage;
  const last = message.status === "streaming" ? message.content.length - 1 : -1;
  const parts = [
    ...message.content.flatMap((block, index) => partsOf(block, index === last ? "streaming" : "done")),
    ...message.toolCalls.map(({ callId, name, args }): Part => {
      const call = { type: "dynamic-tool", toolName: name, toolCallId: callId ?? "", input: args } as const;
      const answer = all.get(callId ?? "");
      if (answer === undefined) return { ...call, state: "input-available" };
      if (answer.toolFailed === true) return { ...call, state: "output-error", errorText: answer.text };
      return { ...call, state: "output-available", output: answer.text };
    }),
  ];
  const uiMessage: ParleyUIMessage = { id: message.id, role, parts, metadata: metadataOf(message) };
  made.set(message, { answers, uiMessage });
  return uiMessage;
}

export function metadataOf({ createdAt, status, finishReason, error }: ChatMessage): ParleyMetadata {
  return { createdAt, status, finishReason, error };
}

/** A text's sources stand behind it. */
function partsOf(block: Block, state: "streaming" | "done"): Part[] {
  switch (block.type) {
    case "text":
      return [
        { type: "text", text: block.text, state },
        ...sourcesIn(block).map((source) => ({ type: "source-url" as const, ...source })),
      ];
    case "reasoning":
      return [{ type: "reasoning", text: block.text, state }];
    case "image":
      return [{ type: "file", mediaType: mimeTypeIn(block.url) ?? "image", url: block.url }];
    case "audio":
      return [{ type: "file", mediaType: block.mimeType ?? mimeTypeIn(block.url) ?? "audio", url: block.url }];
    case "file": {
      const { url, mimeType, fileName } = block;
      const mediaType = mimeType ?? mimeTypeIn(url) ?? "application/octet-stream";
      return [{ type: "file", mediaType, url, ...(fileName === null ? {} : { filename: fileName }) }];
    }
    case "server-tool": {
      const { callId, name, args, result } = block;
      const call = { type: "dynamic-tool", toolName: name, toolCallId: callId, input: args } as const;
      const ran = { ...call, providerExecuted: true } as const;
      return [
        result === null ? { ...ran, state: "input-available" } : { ...ran, state: "output-available", output: result },
      ];
    }
    case "other":
      return [{ type: "data-block", data: block.data }];
  }
}

/** What a user's message holds, as Parley takes it. Parts that only replies have are left out. */
export function toContent({ parts }: Pick<UIMessage, "parts">): readonly SentBlock[] {
  return parts.flatMap((part): readonly SentBlock[] => {
    if (part.type === "text") return [{ type: "text", text: part.text }];
    if (part.type === "data-block") return [{ type: "other", data: part.data as Readonly<Record<string, unknown>> }];
    if (part.type !== "file") return [];
    const { url, mediaType, filename = null } = part;
    const [kind] = mediaType.split("/");
    // The AI SDK also takes the first half of a type alone.
    const mimeType = mediaType.includes("/") && !mediaType.endsWith("/*") ? mediaType : null;
    if (kind === "image") return [{ type: "image", url, detail: null }];
    if (kind === "audio") return [{ type: "audio", url, mimeType }];
    return [{ type: "file", url, mimeType, fileName: filename }];
  });
}
