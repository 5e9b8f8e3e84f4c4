import type { UIMessage } from "ai";

import type { Block, ChatMessage, SentBlock, ToolCall } from "../message.ts";
import type { ToolFunction } from "../page-tools.ts";
import type { Approval, Decision } from "../run.ts";
import { mimeTypeIn, sourcesIn } from "./blocks.ts";
import { broughtAs } from "./waiting.ts";

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
export type ToolPart = Extract<Part, { readonly type: "dynamic-tool" }>;

const roles = { USER: "user", ASSISTANT: "assistant", SYSTEM: "system" } as const;

/**
 * A reply that calls tools and what its model says behind their answers are steps of one message, under the id of the first.
 * Messages in roles that the AI SDK does not have are left out: what tools answered stands in their calls.
 */
export function toUIMessages(messages: readonly ChatMessage[]): ParleyUIMessage[] {
  return repliesOf(messages).map(toUIMessage);
}

/** The message of the AI SDK that this one is a step of. */
export function uiMessageWith(messages: readonly ChatMessage[], id: string | undefined): ParleyUIMessage | undefined {
  const steps = repliesOf(messages).find((one) => one.some((message) => message.id === id));
  return steps && toUIMessage(steps);
}

function repliesOf(messages: readonly ChatMessage[]): readonly (readonly ChatMessage[])[] {
  const replies: ChatMessage[][] = [];
  let goesOn = false;
  for (const message of messages) {
    const { role, toolCalls } = message;
    if (role === "TOOL" || !(role in roles)) continue;
    if (goesOn && role === "ASSISTANT") replies.at(-1)?.push(message);
    else replies.push([message]);
    goesOn = toolCalls.length > 0;
  }
  return replies;
}

const made = new WeakMap<
  ChatMessage,
  { readonly steps: readonly ChatMessage[]; readonly uiMessage: ParleyUIMessage }
>();

/** The same object for as long as nothing of it changes. */
function toUIMessage(steps: readonly ChatMessage[]): ParleyUIMessage {
  const [first] = steps;
  const last = steps.at(-1);
  if (first === undefined || last === undefined) throw new Error("A message has a step at least.");
  const before = made.get(first);
  if (before?.steps.length === steps.length && before.steps.every((step, at) => step === steps[at])) {
    return before.uiMessage;
  }
  const uiMessage: ParleyUIMessage = {
    id: first.id,
    role: roles[first.role as keyof typeof roles], // others were left out
    parts: steps.flatMap((step, at) => [...(at === 0 ? [] : [{ type: "step-start" } as const]), ...partsOfStep(step)]),
    metadata: { ...metadataOf(last), createdAt: first.createdAt },
  };
  made.set(first, { steps, uiMessage });
  return uiMessage;
}

function partsOfStep({ id, status, content, toolCalls }: ChatMessage): Part[] {
  const last = status === "streaming" && toolCalls.length === 0 ? content.length - 1 : -1;
  return [
    ...content.flatMap((block, index) => partsOf(block, index === last ? "streaming" : "done")),
    ...toolCalls.map((call, index) => callOf(call, call.callId ?? `${id}-${index}`)),
  ];
}

function callOf({ name, args, argsText, status, allowed, result }: ToolCall, id: string): ToolPart {
  const call = { type: "dynamic-tool", toolName: name, toolCallId: id, input: args } as const;
  switch (status) {
    case "WRITING":
      return { ...call, state: "input-streaming", rawInput: argsText };
    case "NEEDS_RESULT":
      // It may not begin before others of its message are approved.
      return allowed.length > 0
        ? { ...call, state: "input-available" }
        : { ...call, state: "input-streaming", rawInput: argsText };
    case "NEEDS_APPROVAL":
      // Decided on, it waits until all of its message are.
      return allowed.length > 0
        ? { ...call, state: "approval-requested", approval: { id } }
        : { ...call, state: "approval-responded", approval: { id, approved: true } };
    case "REJECTED":
      return { ...call, state: "output-denied", approval: { id, approved: false, reason: result ?? "" } };
    case "DONE":
      return { ...call, state: "output-available", output: result };
    case "FAILED":
      return { ...call, state: "output-error", errorText: result ?? "" };
    case "CANCELLED":
      return { ...call, state: "output-error", errorText: "The run ended before the tool began." };
    default:
      return { ...call, state: "input-available" };
  }
}

/** What is decided in a message of the AI SDK on calls that the run waits with. */
export function decisionsIn({ parts }: Pick<UIMessage, "parts">, approvals: readonly Approval[]): readonly Decision[] {
  return parts.flatMap((part): readonly Decision[] => {
    if (part.type !== "dynamic-tool" || part.state !== "approval-responded") return [];
    const { id, approved, reason } = part.approval;
    return approvals.some(({ callId }) => callId === id) ? [decisionOf(id, approved, reason)] : [];
  });
}

export function decisionOf(callId: string, approved: boolean, reason?: string): Decision {
  if (approved) return { approve: { callId } };
  return { reject: { callId, ...(reason === undefined ? {} : { reason }) } };
}

/** What came of calls that the run waits with, as addToolOutput has put it into a message of the AI SDK. */
export function outputsIn({ parts }: Pick<UIMessage, "parts">, approvals: readonly Approval[]) {
  return parts.flatMap((part): readonly { readonly callId: string; readonly work: ToolFunction }[] => {
    if (part.type !== "dynamic-tool" || !approvals.some(({ callId }) => callId === part.toolCallId)) return [];
    const callId = part.toolCallId;
    if (part.state === "output-error") return [{ callId, work: broughtAs(part.errorText, true) }];
    return part.state === "output-available" ? [{ callId, work: broughtAs(part.output, false) }] : [];
  });
}

/**
 * For `sendAutomaticallyWhen` of useChat: each call of the last message that waited for an approval is decided on, and each of
 * the page's has its output.
 */
export function callsAreAnswered({ messages }: { readonly messages: readonly UIMessage[] }): boolean {
  const last = messages.at(-1);
  // What is stored waits for nobody.
  if (last?.role !== "assistant" || (last as ParleyUIMessage).metadata?.status !== "streaming") return false;
  const step = last.parts.slice(last.parts.findLastIndex(({ type }) => type === "step-start") + 1);
  const states = step.flatMap((part) => (part.type === "dynamic-tool" ? [part.state] : []));
  const waits = states.some((state) => state === "approval-requested" || state === "input-available");
  return states.length > 0 && !waits;
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
