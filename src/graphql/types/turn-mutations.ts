import type { GraphQLResolveInfo } from "graphql";
import type { NewSession, ReadRequest, TurnResult } from "../../conversation/conversations/api.ts";
import { badInput } from "../../conversation/errors.ts";
import { isObject } from "../../conversation/message/json.ts";
import type { PageTool } from "../../conversation/ports/model.ts";
import type { PageRequest } from "../../conversation/session.ts";
import { isFinal } from "../../conversation/run.ts";
import { builder } from "../builder.ts";
import { ContentBlockInput, parseContent, parseIdempotencyKey, parseMessageId } from "./new-message.ts";
import type { Context } from "../context.ts";
import { pagesOfSessionBelow, selectsAtOnce } from "../reading/lookahead.ts";
import { MessageParent } from "../reading/message-parent.ts";
import { Readings, requestOf } from "../reading/readings.ts";
import type { SessionParent } from "../reading/readings.ts";
import { MessageRef, RunRef, SessionRef } from "../reading/refs.ts";
import { messageOfRun } from "./run.ts";
import { instructionsDescription, metadataDescription, modelDescription, parseMetadata } from "./session-mutations.ts";

const WhenBusyRef = builder.enumType("WhenBusy", {
  description: "What to do while another run is going in the same session.",
  values: {
    QUEUE: {
      description: "Wait in line: first come, first served, over all gateways. QUEUE_FULL where the line is too long.",
    },
    REJECT: { description: "Refuse with SESSION_BUSY (extensions.runId), leaving no trace." },
    INTERRUPT: { description: "Cancel that run, keeping the text it has, and go ahead of all that wait." },
  } as const,
});

/** The argument of both mutations. */
const whenBusy = {
  type: WhenBusyRef,
  required: true,
  defaultValue: "QUEUE",
  description: "What to do while another run is going in the session.",
} as const;

interface TurnParent {
  readonly turn: TurnResult;
  readonly pages: readonly PageRequest[];
  /** Hold the session, if the answer's selection leads to it, and the run. */
  readonly readings: Readings;
  /** Whether the use case has waited for the end already. */
  readonly waited: boolean;
}

/** Carries out a turn as the answer's selection wants it: whether it waits for `reply`, and what of the session it reads, if anything. */
async function answerOf(
  context: Context,
  info: GraphQLResolveInfo,
  take: (read: ReadRequest | null, wait: boolean) => Promise<TurnResult>,
): Promise<TurnParent> {
  const waited = selectsAtOnce(info, "reply");
  const pages = pagesOfSessionBelow(info);
  const turn = await take(pages && requestOf(context, pages), waited);
  const readings = new Readings();
  readings.giveRun(turn.run);
  if (turn.session) readings.give(turn.session, pages ?? []);
  return { turn, pages: pages ?? [], readings, waited };
}

function runOf({ turn, readings }: TurnParent) {
  return { run: turn.run, readings };
}

function sessionOf({ turn, pages, readings }: TurnParent, context: Context): Promise<SessionParent> {
  return readings.require(context, turn.run.sessionId, () => pages);
}

/** Only a deferred `reply` comes here without having waited. */
async function replyOf(parent: TurnParent, context: Context): Promise<MessageParent | null> {
  const { run, reply } = parent.turn;
  const { readings } = parent;
  if (reply !== null) return new MessageParent(reply, readings);
  const ended =
    parent.waited || isFinal(run.status)
      ? run
      : await context.conversations.awaitRun(context, run.sessionId, run.runId);
  return messageOfRun({ run: ended, readings }, ended.replyRow);
}

const replyDescription =
  "The reply. Selecting it makes the mutation wait until the run has ended; inside @defer only this field waits. null where the run failed (see run.error), where it was stopped before it had any text, where it waits for an approval or the page (run.status is WAITING then), and where the gateway's limit for waiting came first (run.status is RUNNING then).";

const NewSessionInput = builder.inputType("NewSessionInput", {
  description:
    "The settings of the session, if this message starts it. They are ignored if the session exists already, and in a repeated call.",
  fields: (t) => ({
    title: t.string({ description: "Its title; generateTitle can make one later." }),
    instructions: t.string({ description: instructionsDescription }),
    model: t.string({
      description: `${modelDescription} The gateway's default if left out. SendMessageInput.model is for the one reply.`,
    }),
    metadata: t.field({ type: "JSON", description: metadataDescription }),
  }),
});

const ClientToolInput = builder.inputType("ClientToolInput", {
  description: "A tool of the page's own: a call of it waits for respondToRun to begin it, and to bring its result.",
  fields: (t) => ({
    name: t.string({ required: true, description: "1 to 64 of A-Z a-z 0-9 _ -; none that the agent has itself." }),
    description: t.string({ required: true, description: "What it does, for the model." }),
    parameters: t.field({
      type: "JSON",
      required: true,
      description:
        'The JSON Schema of its arguments, with "type": "object". Only the page holds the arguments against it.',
    }),
  }),
});

const toolsDescription =
  "Tools of the page's own, for an agent that takes them (clientTools), where the gateway is set to (CLIENT_TOOLS=on): at most 32, and 64 KiB together. They stay with the run. Else BAD_USER_INPUT.";

function parseTools(given: readonly (typeof ClientToolInput.$inferInput)[] | null | undefined): readonly PageTool[] {
  return (given ?? []).map(({ parameters, ...rest }, i) => {
    if (!isObject(parameters))
      throw badInput(`input.tools[${i}].parameters`, "Parameters are a JSON Schema: an object.");
    return { ...rest, parameters };
  });
}

const SendMessageInput = builder.inputType("SendMessageInput", {
  description: "A message to be answered.",
  fields: (t) => ({
    sessionId: t.string({
      description:
        "The id that LangChain code passes to RedisChatMessageHistory. An unknown one starts a session; another's is NOT_FOUND. Left out, a session is started whose id the gateway makes (payload: session.sessionId): from messageId or idempotencyKey, so that a repeated call finds the same one; without either each call starts another.",
    }),
    newSession: t.field({
      type: NewSessionInput,
      description: "How the session is to be if this call starts it; with the defaults if left out.",
    }),
    text: t.string({ description: "The message as text: either this or `content`. Must not be blank." }),
    content: t.field({ type: [ContentBlockInput], description: "The message as blocks: either this or `text`." }),
    messageId: t.string({
      description:
        "The caller's own id for the message, 1 to 128 of A-Z a-z 0-9 . _ - (a UUID is best), and the idempotency key: sent again within 25 hours, it gives back the first call's message and run, whatever became of it. With other content: MESSAGE_ID_REUSED.",
    }),
    whenBusy: t.field(whenBusy),
    replaceFrom: t.string({
      description:
        "Cursor or id of a message: drop it and all after it first (edit and resend). If queued, when its turn comes. Of a tool's answer it means the reply that called the tool.",
    }),
    idempotencyKey: t.string({
      description:
        "1 to 128 characters of the caller's own: sent again with it, the first call's run is given back. Needed where the messageId is that of the very message at `replaceFrom` (an edit that keeps its id); the messageId does the same for all other messages that have one.",
    }),
    model: t.string({ description: "The model for this reply alone; the session's if left out." }),
    tools: t.field({ type: [ClientToolInput], description: toolsDescription }),
  }),
});

function parseNewSession(given: typeof NewSessionInput.$inferInput | null | undefined): NewSession | null {
  if (!given) return null;
  const { title = null, instructions = null, model = null, metadata } = given;
  return { title, instructions, model, metadata: parseMetadata(metadata, "input.newSession.metadata") ?? null };
}

/** What both mutations answer. */
function turnFields(t: PothosSchemaTypes.ObjectFieldBuilder<typeof builder.$inferSchemaTypes, TurnParent>) {
  return {
    run: t.field({ type: RunRef, description: "The reply being made.", resolve: runOf }),
    reply: t.field({
      type: MessageRef,
      nullable: true,
      description: replyDescription,
      resolve: (parent, _args, context) => replyOf(parent, context),
    }),
    session: t.field({
      type: SessionRef,
      description: "The session after it.",
      resolve: (parent, _args, context) => sessionOf(parent, context),
    }),
  };
}

const SendMessagePayload = builder.objectRef<TurnParent>("SendMessagePayload").implement({
  description:
    "What sendMessage answers: as soon as the message is stored, or, with `reply` selected, when the run has ended.",
  fields: (t) => ({
    userMessage: t.field({
      type: MessageRef,
      nullable: true,
      description: "The message as it is stored; null while the run is queued: see run.input.",
      resolve: ({ turn, readings }) =>
        turn.userMessage === null ? null : new MessageParent(turn.userMessage, readings),
    }),
    ...turnFields(t),
  }),
});

builder.mutationField("sendMessage", (t) =>
  t.field({
    type: SendMessagePayload,
    description:
      "Stores a user's message and runs LangChain's ConversationChain on the history. The reply goes on when the client disconnects. Errors: BAD_USER_INPUT, NOT_FOUND, SESSION_BUSY, QUEUE_FULL, RATE_LIMITED (a retry with the same messageId never is), LIMIT_REACHED for a new session too many, MESSAGE_ID_REUSED, INVALID_CURSOR, CURSOR_EXPIRED. A model's failure is none of them: see run.error.",
    args: { input: t.arg({ type: SendMessageInput, required: true, description: "The message and its session." }) },
    resolve: (_root, { input }, context, info) => {
      const send = {
        sessionId: input.sessionId ?? null,
        newSession: parseNewSession(input.newSession),
        content: parseContent("input", input),
        messageId: parseMessageId("input.messageId", input.messageId),
        idempotencyKey: parseIdempotencyKey(input.idempotencyKey),
        whenBusy: input.whenBusy,
        replaceFrom: input.replaceFrom ?? null,
        model: input.model ?? null,
        tools: parseTools(input.tools),
      };
      return answerOf(context, info, (read, wait) => context.conversations.sendMessage(context, send, read, wait));
    },
  }),
);

const RegenerateReplyInput = builder.inputType("RegenerateReplyInput", {
  description: "Which reply to make anew.",
  fields: (t) => ({
    sessionId: t.string({ required: true, description: "The session; an unknown one is NOT_FOUND." }),
    replaceFrom: t.string({
      description:
        "Cursor or id of the reply to make anew, dropped with all after it once the new one is complete; left out: all after the last USER message.",
    }),
    idempotencyKey: t.string({
      description: "1 to 128 characters of the caller's own: sent again with it, the first call's run is given back.",
    }),
    model: t.string({ description: "The model for this reply alone; the session's if left out." }),
    whenBusy: t.field(whenBusy),
    tools: t.field({ type: [ClientToolInput], description: toolsDescription }),
  }),
});

const RegenerateReplyPayload = builder.objectRef<TurnParent>("RegenerateReplyPayload").implement({
  description: "What regenerateReply answers: at once, or, with `reply` selected, when the run has ended.",
  fields: turnFields,
});

builder.mutationField("regenerateReply", (t) =>
  t.field({
    type: RegenerateReplyPayload,
    description:
      "Answers again; also the retry of a run that FAILED. The old reply stays until the new one is complete, with an agent until its first step or its reply is stored. Errors as with sendMessage.",
    args: { input: t.arg({ type: RegenerateReplyInput, required: true, description: "Which reply to make anew." }) },
    resolve: (_root, { input }, context, info) => {
      const regenerate = {
        sessionId: input.sessionId,
        replaceFrom: input.replaceFrom ?? null,
        idempotencyKey: parseIdempotencyKey(input.idempotencyKey),
        model: input.model ?? null,
        whenBusy: input.whenBusy,
        tools: parseTools(input.tools),
      };
      return answerOf(context, info, (read, wait) =>
        context.conversations.regenerateReply(context, regenerate, read, wait),
      );
    },
  }),
);
