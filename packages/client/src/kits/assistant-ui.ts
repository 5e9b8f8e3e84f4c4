"use client";
import { useExternalStoreRuntime } from "@assistant-ui/react";
import type { AppendMessage, AssistantRuntime, ExternalStoreAdapter, ThreadMessageLike } from "@assistant-ui/react";
import { useMemo } from "react";

import type { Block, ChatMessage, SentBlock, ToolCall } from "../message.ts";
import { useParleyClient, useParleySession, useParleySessions } from "../react.ts";
import type { ParleySession, ParleySessionOptions } from "../react.ts";
import type { SendOptions } from "../session.ts";
import type { SessionInfo } from "../session-info.ts";
import { mimeTypeIn, sourcesIn } from "./blocks.ts";
import { broughtAs, waitsForSomebody } from "./waiting.ts";

type Adapters = NonNullable<ExternalStoreAdapter["adapters"]>;
type Part = Exclude<ThreadMessageLike["content"], string>[number];

export interface ParleyRuntimeOptions extends ParleySessionOptions {
  /** The session that is shown. */
  readonly sessionId: string;
  /** With `threadList: useParleyThreadList(…)` there is a list of sessions. */
  readonly adapters?: Adapters;
}

/** A session as the runtime of assistant-ui: history, older pages, edit, regenerate, stop and queue, live from every tab. */
export function useParleyRuntime({ sessionId, adapters = {}, ...options }: ParleyRuntimeOptions): AssistantRuntime {
  const chat = useParleySession(sessionId, options);
  const messages = useMemo(() => shown(chat.messages), [chat.messages]);
  const queue = useMemo(() => queueOf(chat), [chat]);
  return useExternalStoreRuntime<ChatMessage>({
    ...{ messages, convertMessage, queue, adapters },
    // What waits for somebody runs no more, until that is there.
    isRunning: chat.run !== null && !waitsForSomebody(chat),
    isLoading: chat.connection === "connecting" && chat.session === null,
    ...(chat.run === null ? {} : { activeRunId: chat.run.id }),
    hasEarlier: chat.hasOlder,
    onLoadEarlier: chat.loadOlder,
    async onNew(message) {
      await chat.send(contentOf(message), modelOf(message));
    },
    async onEdit(message) {
      if (message.sourceId === null || message.role !== "user") throw new Error("Only users' messages can be edited.");
      await chat.edit(message.sourceId, contentOf(message), modelOf(message));
    },
    async onReload(parentId) {
      await chat.regenerate(parentId ?? chat.messages[0]?.id);
    },
    onCancel: () => chat.cancel(),
    async onAddToolResult({ toolCallId, result, isError }) {
      await chat.runTool(toolCallId, broughtAs(result, isError));
    },
    async onRespondToToolApproval({ approvalId: callId, approved, reason }) {
      const rejected = { callId, ...(reason === undefined ? {} : { reason }) };
      await chat.respond([approved ? { approve: { callId } } : { reject: rejected }]);
    },
  });
}

type QueueAdapter = NonNullable<ExternalStoreAdapter["queue"]>;

/** What is sent while a reply is being made waits for its turn in the gateway, for all tabs. Only who asks for it (steer) interrupts. */
function queueOf({ messages, queued, send, edit, cancel }: ParleySession): QueueAdapter {
  const waiting = queued.flatMap((run) => messages.find(({ id }) => id === run.userMessageId) ?? []);
  // A message that could not be sent says so in the thread. One that has begun meanwhile cannot be taken back.
  const quietly = (work: Promise<unknown>) => void work.catch(() => undefined);
  const post = (message: AppendMessage) => {
    const steered = message.steer === true ? ({ whenBusy: "INTERRUPT" } as const) : {};
    quietly(send(contentOf(message), { ...modelOf(message), ...steered }));
  };
  return {
    items: waiting.map(({ id, text }) => ({ id, prompt: text, parts: [{ type: "text", text }] })),
    steerItems: [],
    enqueue: post,
    steer: post,
    edit: (id, message) => quietly(edit(id, contentOf(message), modelOf(message))),
    remove: (id) => quietly(cancel(queued.find(({ userMessageId }) => userMessageId === id)?.id)),
    move() {
      throw new Error("Parley's queue is first come, first served.");
    },
  };
}

const archivedOnly = { archived: true };

/** The viewer's sessions as assistant-ui's list of threads, live. `onSwitch` is to show that session instead. */
export function useParleyThreadList(
  sessionId: string,
  onSwitch: (sessionId: string) => void,
): NonNullable<Adapters["threadList"]> {
  const client = useParleyClient();
  const { sessions, connection } = useParleySessions();
  const { sessions: archived } = useParleySessions(archivedOnly);
  return useMemo(
    () => ({
      threadId: sessionId,
      threads: sessions.map((session) => ({ status: "regular", ...threadOf(session) })),
      archivedThreads: archived.map((session) => ({ status: "archived", ...threadOf(session) })),
      isLoading: connection === "connecting",
      onSwitchToThread: onSwitch,
      // Its first message starts the session.
      onSwitchToNewThread: () => onSwitch(client.newSessionId()),
      onRename: (id, title) => client.session(id).update({ title }),
      onUpdateCustom(id, custom = {}) {
        const metadata = Object.fromEntries(Object.entries(custom).filter(([key]) => !ownKeys.has(key)));
        return client.session(id).update({ metadata });
      },
      onArchive: (id) => client.session(id).update({ archived: true }),
      onUnarchive: (id) => client.session(id).update({ archived: false }),
      async onDelete(id) {
        await client.session(id).delete();
        if (id === sessionId) onSwitch(client.newSessionId());
      },
    }),
    [client, sessions, archived, connection, sessionId, onSwitch],
  );
}

/** Of a thread's `custom`: what Parley tells, beside the session's metadata. */
const ownKeys = new Set(["running", "unread", "updatedAt"]);

function threadOf({ sessionId, title, metadata, running, messageCount, readCount, updatedAt }: SessionInfo) {
  return {
    ...{ id: sessionId, remoteId: sessionId },
    ...(title === null ? {} : { title }),
    custom: { ...metadata, running, unread: messageCount - readCount, updatedAt },
  };
}

/** What waits is in the queue, and what tools answered stands in their calls. Each is converted once, until it changes. */
function shown(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  return messages.filter(
    ({ role, status }) => status !== "queued" && (role === "USER" || role === "ASSISTANT" || role === "SYSTEM"),
  );
}

function convertMessage(message: ChatMessage): ThreadMessageLike {
  const { id, role, text, content, createdAt, status, error, toolCalls } = message;
  const common = {
    ...{ id, metadata: { custom: { status, error }, isOptimistic: status === "sending" } },
    ...(createdAt === null ? {} : { createdAt: new Date(createdAt) }),
  };
  if (role === "SYSTEM") return { ...common, role: "system", content: text };
  if (role === "USER") return { ...common, role: "user", content: content.filter(isSent).flatMap(partsOf) };
  const calls = toolCalls.map((call, index) => callOf(call, call.callId ?? `${id}-${index}`));
  return { ...common, role: "assistant", content: [...content.flatMap(partsOf), ...calls], status: statusOf(message) };
}

function callOf({ name, argsText, status, allowed, result }: ToolCall, id: string): Part {
  const isAsked = status === "NEEDS_APPROVAL";
  const isRejected = status === "REJECTED";
  const decided = isAsked && allowed.length > 0 ? {} : { approved: !isRejected };
  return {
    ...{ type: "tool-call", toolCallId: id, toolName: name, argsText },
    ...(isAsked || isRejected ? { approval: { id, ...decided } } : {}),
    ...(result === null ? {} : { result, isError: status !== "DONE" }),
  };
}

function isSent(block: Block): block is SentBlock {
  return block.type !== "reasoning" && block.type !== "server-tool";
}

function statusOf({ status, finishReason, error, toolCalls }: ChatMessage): ThreadMessageLike["status"] {
  const isWaiting = toolCalls.some(({ allowed }) => allowed.length > 0);
  if (isWaiting && status === "streaming") return { type: "requires-action", reason: "tool-calls" };
  if (status === "streaming") return { type: "running" };
  if (status === "failed") return { type: "incomplete", reason: "error", error: error?.message ?? "" };
  if (finishReason === "CANCELLED") return { type: "incomplete", reason: "cancelled" };
  if (finishReason === "LENGTH") return { type: "incomplete", reason: "length" };
  if (finishReason === "CONTENT_FILTER") return { type: "incomplete", reason: "content-filter" };
  return { type: "complete", reason: finishReason === null ? "unknown" : "stop" };
}

function partsOf(block: Block): readonly Part[] {
  switch (block.type) {
    case "text":
      return [
        { type: "text", text: block.text },
        ...sourcesIn(block).map(({ sourceId, ...source }): Part => ({
          type: "source",
          sourceType: "url",
          id: sourceId,
          ...source,
        })),
      ];
    case "reasoning":
      return [{ type: "reasoning", text: block.text }];
    case "image":
      return [{ type: "image", image: block.url }];
    case "file":
    case "audio": {
      const { type, url, mimeType } = block;
      const filename = type === "file" ? block.fileName : null;
      const data = /^data:[^,]*;base64,(.*)$/s.exec(url)?.[1];
      return [
        {
          ...{ type: "file", data: data ?? url, ...(data === undefined ? { sourceType: "url" } : {}) },
          mimeType: mimeType ?? mimeTypeIn(url) ?? (type === "audio" ? "audio/*" : "application/octet-stream"),
          ...(filename === null ? {} : { filename }),
        },
      ];
    }
    case "server-tool": {
      const { callId, name, args, result } = block;
      const call = { type: "tool-call", toolCallId: callId, toolName: name, argsText: JSON.stringify(args) } as const;
      return [result === null ? call : { ...call, result }];
    }
    case "other":
      return [{ type: "data-block", data: block.data }];
  }
}

function contentOf({ content, attachments = [] }: AppendMessage): readonly SentBlock[] {
  const parts = [...content, ...attachments.flatMap((attachment) => attachment.content)];
  return parts.flatMap((part): readonly SentBlock[] => {
    if (part.type === "text") return [{ type: "text", text: part.text }];
    if (part.type === "image") return [{ type: "image", url: part.image, detail: null }];
    if (part.type !== "file") return [];
    const { data, mimeType, sourceType, filename = null } = part;
    if (sourceType === "id") throw new Error("Parley cannot read a file that another store keeps.");
    const isAddress = sourceType === "url" || /^(?:https?|data):/.test(data);
    const url = isAddress ? data : `data:${mimeType};base64,${data}`;
    return [
      mimeType.startsWith("audio/")
        ? { type: "audio", url, mimeType }
        : { type: "file", url, mimeType, fileName: filename },
    ];
  });
}

/** The model that the composer's run config names for this reply. */
function modelOf({ runConfig }: AppendMessage): Pick<SendOptions, "model"> {
  const model = runConfig?.custom?.["model"];
  return typeof model === "string" ? { model } : {};
}
