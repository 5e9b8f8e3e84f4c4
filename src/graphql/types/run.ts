import { parseJson } from "../../conversation/message/json.ts";
import { notFound } from "../../conversation/errors.ts";
import type { Row } from "../../conversation/message/message.ts";
import type { Run, RunError } from "../../conversation/run.ts";
import { ReadMessage } from "../../conversation/message/read-message.ts";
import { builder } from "../builder.ts";
import { ContentBlockRef } from "./content.ts";
import { messageGlobalId, parseGlobalId, runGlobalId } from "../reading/global-ids.ts";
import { pagesOf } from "../reading/lookahead.ts";
import { TokenUsageRef } from "./message.ts";
import { MessageParent } from "../reading/message-parent.ts";
import { Readings } from "../reading/readings.ts";
import type { RunParent } from "../reading/readings.ts";
import { MessageRef, RunRef, SessionRef } from "../reading/refs.ts";
import { approvalsOfRun, partsOfRun, RunPartRef, ToolPartRef } from "./run-parts.ts";

const RunStatusRef = builder.enumType("RunStatus", {
  description:
    "QUEUED → RUNNING → COMPLETED, CANCELLED or FAILED; QUEUED → CANCELLED. The last three are final. An agent's run goes RUNNING → WAITING → RUNNING where a call of a tool needs an approval, as often as that is; WAITING → CANCELLED or FAILED.",
  values: {
    QUEUED: { description: "It waits for another run of the session. Its user message is not in the history yet." },
    RUNNING: { description: "The reply is being made. The user message is in the history." },
    WAITING: {
      description:
        "It waits for respondToRun, as `approvals` says, until waitsUntil. It keeps its turn: what is sent meanwhile is QUEUED.",
    },
    COMPLETED: { description: "Final: the reply is in the history." },
    CANCELLED: {
      description:
        "Final: it was stopped. Text that it had is in the history, as a message with finishReason CANCELLED.",
    },
    FAILED: { description: "Final: see `error`. Text that it had is in `text` only; the user message stays." },
  } as const,
});

const RunErrorCodeRef = builder.enumType("RunErrorCode", {
  description: "Why a model's reply failed.",
  values: {
    MODEL_RATE_LIMITED: { description: "The provider has had too many requests. Later it will do." },
    MODEL_UNAVAILABLE: { description: "The provider cannot be reached or fails, or no gateway here has this model." },
    MODEL_TIMEOUT: { description: "The model took too long." },
    MODEL_UNAUTHORIZED: {
      description: "The provider refuses the gateway's key. Only the gateway's operator can repair that.",
    },
    CONTEXT_TOO_LONG: {
      description: "History and message are more than the model takes. A smaller memory window helps.",
    },
    CONTENT_REFUSED: { description: "The provider refuses the content." },
    REPLY_CUT_OFF: {
      description:
        "The model's stream ended without a finish reason; or what it was to end as, an agent's call or its object, was longer than a reply may be.",
    },
    TOOL_LIMIT: { description: "An agent asked its model or its tools more often than its limits let it." },
    RUN_TIMEOUT: { description: "An agent took longer than its limits let it." },
    CANNOT_WAIT: {
      description:
        "An agent asked for an answer in the middle of its work (LangGraph's interrupt()). Only calls of tools that need an approval can wait.",
    },
    APPROVAL_EXPIRED: { description: "Nobody decided in time on the calls that an agent's run waited with." },
    RUN_LOST: { description: "The process that made the reply died." },
    OTHER: { description: "Any other failure, and what a later version adds." },
  } as const,
});

export const RunErrorRef = builder.objectRef<RunError>("RunError").implement({
  description: "Why a model's reply failed. It is data, not a GraphQL error.",
  fields: (t) => ({
    code: t.expose("code", { type: RunErrorCodeRef, description: "What to tell cases apart by." }),
    message: t.exposeString("message", { description: "In words that can be shown to the user; holds no internals." }),
    retryable: t.exposeBoolean("retryable", { description: "Whether regenerateReply may well succeed." }),
    retryAfterSeconds: t.exposeInt("retryAfterSeconds", {
      nullable: true,
      description:
        "How many seconds the model's provider asked to wait before the next request; null if it did not say.",
    }),
  }),
});

/** A row of a run as a message. */
export function messageOfRun({ run, readings }: RunParent, row: Row | null): MessageParent | null {
  if (row === null) return null;
  const { sessionId, historyKey, generation } = run;
  return new MessageParent({ sessionId, historyKey, generation, row }, readings);
}

RunRef.implement({
  description:
    "One reply being made. It can be read for 25 hours after its end, and for as long as it is its session's lastRun.",
  interfaces: [builder.nodeInterfaceRef()],
  fields: (t) => ({
    id: t.id({ description: "Global id.", resolve: ({ run }) => runGlobalId(run.sessionId, run.runId) }),
    session: t.field({
      type: SessionRef,
      description: "The session that it replies in.",
      resolve: ({ run, readings }, _args, context, info) =>
        readings.require(context, run.sessionId, () => pagesOf(info, run.sessionId)),
    }),
    status: t.field({ type: RunStatusRef, description: "How far it is.", resolve: ({ run }) => run.status }),
    model: t.string({
      description: 'The model that replies: "provider:name", "offline", or "agent:" and a name.',
      resolve: ({ run }) => run.model,
    }),
    queuedAt: t.field({ type: "DateTime", description: "When it was accepted.", resolve: ({ run }) => run.queuedAt }),
    startedAt: t.field({
      type: "DateTime",
      nullable: true,
      description: "When its turn came; null while queued.",
      resolve: ({ run }) => run.startedAt,
    }),
    finishedAt: t.field({
      type: "DateTime",
      nullable: true,
      description: "When it ended; null until then.",
      resolve: ({ run }) => run.finishedAt,
    }),
    waitsUntil: t.field({
      type: "DateTime",
      nullable: true,
      description:
        "When it becomes FAILED with APPROVAL_EXPIRED unless all calls are decided on by then; null unless it is WAITING.",
      resolve: ({ run }) => run.waitsUntil,
    }),
    input: t.field({
      type: [ContentBlockRef],
      description: "What was sent, also while queued; empty when regenerating.",
      resolve: ({ run }) => (run.inputRow === null ? [] : new ReadMessage(run.inputRow).blocks),
    }),
    userMessage: t.field({
      type: MessageRef,
      nullable: true,
      description:
        "The message that it answers, also when regenerating; null while queued (see `input`) and where it is gone.",
      resolve: (parent) => messageOfRun(parent, parent.run.userRow),
    }),
    userMessageId: t.id({
      nullable: true,
      description:
        "The Message.id that the message which it answers has, or will have: there while queued, too, but when regenerating only once the run has begun.",
      resolve: (parent) => {
        const { sessionId, inputLocalId, userRow } = parent.run;
        if (inputLocalId !== null) return messageGlobalId(sessionId, inputLocalId);
        return messageOfRun(parent, userRow)?.id ?? null;
      },
    }),
    replyId: t.id({
      description:
        "The Message.id that the reply has, or will have. Of an agent's run: that of the message which is being made.",
      resolve: ({ run }) => messageGlobalId(run.sessionId, run.replyLocalId),
    }),
    text: t.string({
      description:
        "The reply as far as it is generated. It stays after the end, and `reply.text` equals it. Of an agent's run: the message that is being made, or was made last; `parts` has all.",
      resolve: ({ run }) => run.text,
    }),
    parts: t.field({
      type: [RunPartRef],
      description:
        "What the run has made so far, in order: text, reasoning where the model's provider tells it, and an agent's calls of tools. It stays after the end.",
      resolve: ({ run }) => partsOfRun(run),
    }),
    approvals: t.field({
      type: [ToolPartRef],
      description: "The calls of tools that wait for respondToRun; empty unless it is WAITING.",
      resolve: ({ run }) => approvalsOfRun(run),
    }),
    reply: t.field({
      type: MessageRef,
      nullable: true,
      description:
        "The newest stored message of the run; selecting it never waits. COMPLETED: the reply. CANCELLED: the partial text as a message, null if there was none. FAILED: null. While an agent works, and where it ends without a reply: its newest message that calls tools.",
      resolve: (parent) => messageOfRun(parent, parent.run.replyRow),
    }),
    messages: t.field({
      type: [MessageRef],
      description:
        "What the run has appended, oldest first, as far as it is in the history: the reply, and before it an agent's messages that call tools, each with the tools' answers behind it.",
      resolve: async ({ run, readings }, _args, context) => {
        const messages = await context.conversations.messagesOfRun(readings.viewer(context), run);
        context.answer?.read(messages.map(({ row }) => row));
        return messages.map((message) => new MessageParent(message, readings));
      },
    }),
    structured: t.field({
      type: "JSON",
      nullable: true,
      description:
        "The object that an agent with `responseFormat` has given as its reply; the reply's text is its JSON. null until it has ended, and of every other run.",
      resolve: ({ run }) => (run.isStructured ? parseJson(run.text) : null),
    }),
    error: t.field({
      type: RunErrorRef,
      nullable: true,
      description: "What went wrong: there exactly when the status is FAILED.",
      resolve: ({ run }) => run.error,
    }),
    usage: t.field({
      type: TokenUsageRef,
      nullable: true,
      description:
        "The tokens that it took, estimated where the provider lost count; null until it has ended and where nobody counted.",
      resolve: ({ run }) => run.usage,
    }),
    notes: t.stringList({
      description:
        "What the reply was made without, a line each that can be shown to the user: images or files of earlier messages that the model does not take. Empty for most, and until it has ended.",
      resolve: ({ run }) => run.notes,
    }),
  }),
});

const CancelRunInput = builder.inputType("CancelRunInput", {
  description: "Which run to stop.",
  fields: (t) => ({ runId: t.id({ required: true, description: "The run's global id." }) }),
});

const CancelRunPayload = builder.objectRef<{ readonly run: Run }>("CancelRunPayload").implement({
  description: "What cancelRun answers.",
  fields: (t) => ({
    run: t.field({
      type: RunRef,
      description: "The run, ended; one that had ended before is as it was.",
      resolve: ({ run }) => ({ run, readings: new Readings() }),
    }),
  }),
});

builder.mutationField("cancelRun", (t) =>
  t.field({
    type: CancelRunPayload,
    description:
      "Stops a reply from any gateway, down to the provider's connection. Text that it had becomes a message with finishReason CANCELLED. NOT_FOUND: there is no such run.",
    args: { input: t.arg({ type: CancelRunInput, required: true, description: "Which run to stop." }) },
    resolve: async (_root, { input }, { conversations, viewer }) => {
      const id = parseGlobalId(input.runId);
      if (id?.type !== "Run") throw notFound("run");
      return { run: await conversations.cancelRun(viewer, id.sessionId, id.local) };
    },
  }),
);
