import type { TokenUsage, ToolCall } from "../../conversation/message/message.ts";
import type { MessagePage } from "../../conversation/session.ts";
import { builder } from "../builder.ts";
import { ContentBlockRef } from "./content.ts";
import { pagesOf } from "../reading/lookahead.ts";
import { MessageEdge, MessageParent } from "../reading/message-parent.ts";
import { connectionOf } from "../reading/paging.ts";
import type { Connection } from "../reading/paging.ts";
import { MessageRef, RunRef, SessionRef } from "../reading/refs.ts";
import type { SessionParent } from "../reading/readings.ts";
import { writtenIn } from "../reading/written.ts";

export const MessageRoleRef = builder.enumType("MessageRole", {
  description: "The role of a message's author.",
  values: {
    USER: { description: "The person: LangChain's `human`." },
    ASSISTANT: { description: "The model: LangChain's `ai`." },
    SYSTEM: { description: "Instructions to the model: LangChain's `system`." },
    TOOL: { description: "What a tool answered: LangChain's `tool`." },
    FUNCTION: { description: "What a function answered, in LangChain's old form. Read, never written here." },
    OTHER: {
      description:
        "Any other role, and rows of the history that are no message at all: see `stored`. Read, never written here.",
    },
  } as const,
});

const FinishReasonRef = builder.enumType("FinishReason", {
  description: "Why the model stopped.",
  values: {
    STOP: { description: "It was done." },
    LENGTH: { description: "It met its limit of tokens: the text is cut off." },
    TOOL_CALLS: { description: "It waits for the answers to its `toolCalls`." },
    CONTENT_FILTER: { description: "The provider's filter cut it off." },
    CANCELLED: { description: "The run was stopped: this is the text it had by then." },
    OTHER: { description: "A reason that has no name here: see `stored`." },
  } as const,
});

const ToolCallRef = builder.objectRef<ToolCall>("ToolCall").implement({
  description: "A tool that the model wants called.",
  fields: (t) => ({
    callId: t.exposeString("callId", {
      nullable: true,
      description: "What the TOOL message that answers it has as `toolCallId`; null where the model gave none.",
    }),
    name: t.exposeString("name", { description: "The tool's name." }),
    args: t.expose("args", {
      type: "JSON",
      description: "Its arguments, an object; their text where the model's JSON was broken.",
    }),
  }),
});

export const TokenUsageRef = builder.objectRef<TokenUsage>("TokenUsage").implement({
  description: "Tokens as the provider counted them, or as they were estimated where it counted none.",
  fields: (t) => ({
    inputTokens: t.exposeInt("inputTokens", { description: "Tokens of what the model was sent." }),
    outputTokens: t.exposeInt("outputTokens", { description: "Tokens of what the model wrote." }),
    totalTokens: t.exposeInt("totalTokens", { description: "Both together." }),
  }),
});

MessageRef.implement({
  description: "One message of a session, written by this gateway or by LangChain code on the same Redis.",
  interfaces: [builder.nodeInterfaceRef()],
  fields: (t) => ({
    id: t.exposeID("id", {
      description:
        'Global id, the same from the first streamed character to the stored message. Where the caller chose the messageId it is base64("Message:<sessionId>:<messageId>"), so that an optimistic message can have it at once.',
      extensions: writtenIn("writtenId"),
    }),
    messageId: t.exposeString("messageId", {
      nullable: true,
      description:
        "LangChain's `data.id`; null where foreign code stored none. Foreign code may repeat one: `id` is unique.",
    }),
    position: t.exposeInt("position", {
      description: "0 for the first message of the session, then 1, 2, …: to order, to merge and to find gaps.",
    }),
    cursor: t.exposeString("cursor", {
      description:
        "Its place in the session. Any `after`, `before`, `through` or `replaceFrom` takes it, or the id; the cursor finds also an old message whose id the caller chose over 25 hours ago.",
      extensions: writtenIn("writtenCursor"),
    }),
    session: t.field({
      type: SessionRef,
      description: "The session that it is in.",
      resolve: ({ placed, readings }, _args, context, info) =>
        readings.require(context, placed.sessionId, () => pagesOf(info, placed.sessionId)),
    }),
    run: t.field({
      type: RunRef,
      nullable: true,
      description:
        "The run that wrote it, or that it started; null for foreign messages and for runs that are forgotten.",
      resolve: async ({ placed, readings, runId }, _args, context) => {
        const run = runId === null ? null : await readings.readRun(context, placed.sessionId, runId);
        return run === null ? null : { run, readings };
      },
    }),
    role: t.expose("role", {
      type: MessageRoleRef,
      description: "The role of its author.",
    }),
    text: t.exposeString("text", {
      description: 'All its text blocks, joined; "" where it has none.',
      extensions: writtenIn("writtenText"),
    }),
    content: t.field({
      type: [ContentBlockRef],
      description:
        "Its parts in order: text, reasoning, images, files and other blocks. Calls of tools are in toolCalls.",
      resolve: ({ blocks }) => blocks,
    }),
    toolCalls: t.expose("toolCalls", {
      type: [ToolCallRef],
      description: "ASSISTANT: the tools that the model wants called; empty for all others.",
    }),
    toolCallId: t.exposeString("toolCallId", {
      nullable: true,
      description: "TOOL: the ToolCall.callId that it answers; else null.",
    }),
    toolFailed: t.exposeBoolean("toolFailed", {
      nullable: true,
      description:
        'TOOL: whether the tool failed (LangChain\'s status "error"); null where it is not said, and for all others.',
    }),
    name: t.exposeString("name", {
      nullable: true,
      description: "The author, where one was given: an agent's name, for example.",
    }),
    createdAt: t.expose("createdAt", {
      type: "DateTime",
      nullable: true,
      description: "When it was written; null only where foreign code stored no time.",
    }),
    finishReason: t.expose("finishReason", {
      type: FinishReasonRef,
      nullable: true,
      description: "ASSISTANT: why the model stopped; null where that is unknown, and for all others.",
    }),
    usage: t.expose("usage", {
      type: TokenUsageRef,
      nullable: true,
      description: "ASSISTANT: the tokens it took; null where they were not counted.",
    }),
    stored: t.expose("stored", {
      type: "JSON",
      description: "What lies in Redis: LangChain's stored message. Where that is no JSON, or `null`, its text.",
    }),
    storedText: t.exposeString("storedText", {
      description: "What lies in Redis, character for character.",
    }),
  }),
});

const MessageEdgeRef = builder.edgeObject({
  type: MessageRef,
  name: "MessageEdge",
  description: "A message and its cursor.",
});

export const MessageConnection = builder.connectionObject(
  { type: MessageRef, name: "MessageConnection", description: "A page of a session's messages, oldest first." },
  MessageEdgeRef,
);

export function messageConnection(parent: SessionParent, page: MessagePage): Connection<MessageParent> {
  const { sessionId, historyKey, generation } = parent.session;
  const edges = page.rows.map(
    (row) => new MessageEdge(new MessageParent({ sessionId, historyKey, generation, row }, parent.readings)),
  );
  return connectionOf(edges, page);
}
