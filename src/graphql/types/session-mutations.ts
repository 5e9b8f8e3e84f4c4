import type { GraphQLResolveInfo } from "graphql";
import type { ReadRequest } from "../../conversation/conversations/api.ts";
import type { Conversations } from "../../conversation/conversations/conversations.ts";
import { badInput } from "../../conversation/errors.ts";
import { isObject } from "../../conversation/message/json.ts";
import type { RunError } from "../../conversation/run.ts";
import type { Session, Viewer } from "../../conversation/session.ts";
import { builder } from "../builder.ts";
import type { Context } from "../context.ts";
import { sessionGlobalId } from "../reading/global-ids.ts";
import { pagesBelow } from "../reading/lookahead.ts";
import { MemorySettingsInput, parseMemory } from "./memory.ts";
import { parseIdempotencyKey } from "./new-message.ts";
import { Readings, requestOf } from "../reading/readings.ts";
import { SessionRef } from "../reading/refs.ts";
import type { SessionParent } from "../reading/readings.ts";
import { RunErrorRef } from "./run.ts";

// What changes a session as a whole. undefined stays undefined and null null all the way: "left out" and "back to the
// default" differ.

function parseTtl(seconds: number | null | undefined): number | null | undefined {
  if (typeof seconds === "number" && seconds < 1) {
    throw badInput("input.ttlSeconds", "ttlSeconds must be at least 1; null: never expires.");
  }
  return seconds;
}

/** @throws {ParleyError} BAD_USER_INPUT: it is no object */
export function parseMetadata(
  metadata: unknown,
  field = "input.metadata",
): Readonly<Record<string, unknown>> | null | undefined {
  if (metadata === undefined || metadata === null || isObject(metadata)) return metadata;
  throw badInput(field, "Metadata is an object of keys and values.");
}

/** Carries out what changes a session, and gives the session with the pages that the answer selects. */
async function changed(
  context: Context,
  info: GraphQLResolveInfo,
  change: (conversations: Conversations, viewer: Viewer, read: ReadRequest) => Promise<Session>,
): Promise<{ readonly session: SessionParent }> {
  const pages = pagesBelow(info);
  const session = await change(context.conversations, context.viewer, requestOf(context, pages));
  return { session: new Readings().give(session, pages) };
}

/** What all but two of these mutations answer. */
function sessionPayload(name: string, of: string, session: string) {
  return builder.objectRef<{ readonly session: SessionParent }>(name).implement({
    description: `What ${of} answers.`,
    fields: (t) => ({
      session: t.field({ type: SessionRef, description: session, resolve: (parent) => parent.session }),
    }),
  });
}

const sessionIdDescription = "The session; an unknown one is NOT_FOUND.";
const idempotencyKeyDescription =
  "1 to 128 characters of the caller's own: sent again with it within 25 hours, the first call's session is given back.";
export const instructionsDescription = "The system prompt, taken literally (braces are no template).";
export const modelDescription = 'The model that replies, one of `models`: "provider:name".';
export const metadataDescription = "The caller's own keys and values: an object.";
const ttlDescription = "How long it lives from its last write on, in whole seconds from 1 on.";

const CreateSessionInput = builder.inputType("CreateSessionInput", {
  description: "How the new session is to be. All of it may be left out.",
  fields: (t) => ({
    sessionId: t.string({
      description:
        "The id that LangChain code passes to RedisChatMessageHistory; left out, the gateway makes one. One that the viewer has already, or that is taken, is SESSION_EXISTS.",
    }),
    title: t.string({
      description:
        "Its title. Without one the session gets one after its first reply, where the gateway makes titles by itself; generateTitle makes one at any time.",
    }),
    instructions: t.string({ description: instructionsDescription }),
    model: t.string({ description: `${modelDescription} The gateway's default if left out.` }),
    memory: t.field({
      type: MemorySettingsInput,
      description: "How much of the history the model sees; the gateway's default if left out.",
    }),
    ttlSeconds: t.int({ description: `${ttlDescription} Left out: the gateway's default; null: never expires.` }),
    metadata: t.field({ type: "JSON", description: metadataDescription }),
    idempotencyKey: t.string({ description: idempotencyKeyDescription }),
  }),
});

const UpdateSessionInput = builder.inputType("UpdateSessionInput", {
  description: "What to change. Left out: unchanged. null: back to the default.",
  fields: (t) => ({
    sessionId: t.string({ required: true, description: sessionIdDescription }),
    title: t.string({ description: "Its title; null: none." }),
    instructions: t.string({ description: `${instructionsDescription} null: none.` }),
    model: t.string({ description: `${modelDescription} null: the gateway's default.` }),
    memory: t.field({
      type: MemorySettingsInput,
      description: "How much of the history the model sees; null: the gateway's default.",
    }),
    ttlSeconds: t.int({ description: `${ttlDescription} null: never expires.` }),
    metadata: t.field({ type: "JSON", description: `${metadataDescription} Replaced whole; null: {}.` }),
    archived: t.boolean({ description: "Whether it is put away; null: it is not." }),
  }),
});

const MarkReadInput = builder.inputType("MarkReadInput", {
  description: "How far a session was read.",
  fields: (t) => ({
    sessionId: t.string({ required: true, description: sessionIdDescription }),
    through: t.string({
      description: "Cursor or id of the newest message that was read; all are, if left out. readCount never goes back.",
    }),
  }),
});

const GenerateTitleInput = builder.inputType("GenerateTitleInput", {
  description: "Which session to find a title for.",
  fields: (t) => ({
    sessionId: t.string({ required: true, description: sessionIdDescription }),
    model: t.string({ description: "The model to ask; the session's if left out." }),
  }),
});

const DeleteSessionInput = builder.inputType("DeleteSessionInput", {
  description: "Which session to delete.",
  fields: (t) => ({ sessionId: t.string({ required: true, description: sessionIdDescription }) }),
});

const ClearHistoryInput = builder.inputType("ClearHistoryInput", {
  description: "Which history to clear.",
  fields: (t) => ({ sessionId: t.string({ required: true, description: sessionIdDescription }) }),
});

const ForkSessionInput = builder.inputType("ForkSessionInput", {
  description: "What to copy, and to where.",
  fields: (t) => ({
    sessionId: t.string({ required: true, description: "The session to copy; an unknown one is NOT_FOUND." }),
    through: t.string({
      description:
        "Cursor or id of the last message to copy; the whole history if left out. A reply that calls tools is copied with its answers.",
    }),
    newSessionId: t.string({
      description: "The copy's id; left out, the gateway makes one. A taken one is SESSION_EXISTS.",
    }),
    title: t.string({ description: "The copy's title." }),
    idempotencyKey: t.string({ description: idempotencyKeyDescription }),
  }),
});

const CreateSessionPayload = sessionPayload("CreateSessionPayload", "createSession", "The new session.");
const UpdateSessionPayload = sessionPayload("UpdateSessionPayload", "updateSession", "The session after it.");
const MarkReadPayload = sessionPayload("MarkReadPayload", "markRead", "The session after it.");
const ClearHistoryPayload = sessionPayload("ClearHistoryPayload", "clearHistory", "The session, empty now.");
const ForkSessionPayload = sessionPayload("ForkSessionPayload", "forkSession", "The copy.");

interface TitleParent {
  readonly session: SessionParent;
  readonly error: RunError | null;
}

const GenerateTitlePayload = builder.objectRef<TitleParent>("GenerateTitlePayload").implement({
  description: "What generateTitle answers.",
  fields: (t) => ({
    session: t.expose("session", { type: SessionRef, description: "The session after it." }),
    error: t.expose("error", {
      type: RunErrorRef,
      nullable: true,
      description: "The model failed: the title stays as it was. null: all went well.",
    }),
  }),
});

const DeleteSessionPayload = builder.objectRef<{ readonly sessionId: string }>("DeleteSessionPayload").implement({
  description: "What deleteSession answers.",
  fields: (t) => ({
    deletedId: t.id({
      description: "The global id that it had, for Relay's @deleteRecord or a cache's evict.",
      resolve: ({ sessionId }) => sessionGlobalId(sessionId),
    }),
    sessionId: t.exposeString("sessionId", { description: "The id that it had for LangChain code." }),
  }),
});

builder.mutationFields((t) => ({
  createSession: t.field({
    type: CreateSessionPayload,
    description:
      "Starts a session. sendMessage does so too, with the defaults or as its newSession says. Errors: SESSION_EXISTS, BAD_USER_INPUT, LIMIT_REACHED.",
    args: { input: t.arg({ type: CreateSessionInput, required: true, description: "How it is to be." }) },
    resolve: (_root, { input }, context, info) => {
      const create = {
        sessionId: input.sessionId ?? null,
        title: input.title ?? null,
        instructions: input.instructions ?? null,
        model: input.model ?? null,
        memory: input.memory ? parseMemory(input.memory) : null,
        ttlSeconds: parseTtl(input.ttlSeconds),
        metadata: parseMetadata(input.metadata) ?? null,
        idempotencyKey: parseIdempotencyKey(input.idempotencyKey),
      };
      return changed(context, info, (conversations, viewer, read) => conversations.createSession(viewer, create, read));
    },
  }),
  updateSession: t.field({
    type: UpdateSessionPayload,
    description: "Changes a session's settings, all at once or not at all. Errors: NOT_FOUND, BAD_USER_INPUT.",
    args: { input: t.arg({ type: UpdateSessionInput, required: true, description: "What to change." }) },
    resolve: (_root, { input }, context, info) => {
      const update = {
        ...input,
        memory: input.memory ? parseMemory(input.memory) : input.memory,
        ttlSeconds: parseTtl(input.ttlSeconds),
        metadata: parseMetadata(input.metadata),
      };
      return changed(context, info, (conversations, viewer, read) => conversations.updateSession(viewer, update, read));
    },
  }),
  markRead: t.field({
    type: MarkReadPayload,
    description: "Notes how far the viewer has read. Errors: NOT_FOUND, INVALID_CURSOR, CURSOR_EXPIRED.",
    args: { input: t.arg({ type: MarkReadInput, required: true, description: "How far." }) },
    resolve: (_root, { input: { sessionId, through = null } }, context, info) =>
      changed(context, info, (conversations, viewer, read) => conversations.markRead(viewer, sessionId, through, read)),
  }),
  generateTitle: t.field({
    type: GenerateTitlePayload,
    description:
      "Asks the model for a title of a few words and stores it; takes no turn. Errors: NOT_FOUND, BAD_USER_INPUT, RATE_LIMITED.",
    args: { input: t.arg({ type: GenerateTitleInput, required: true, description: "Which session." }) },
    resolve: async (_root, { input }, context, info) => {
      const { conversations, viewer } = context;
      const pages = pagesBelow(info);
      const read = requestOf(context, pages);
      const titled = await conversations.generateTitle(viewer, input.sessionId, input.model ?? null, read);
      return { session: new Readings().give(titled.session, pages), error: titled.error };
    },
  }),
  deleteSession: t.field({
    type: DeleteSessionPayload,
    description: "Deletes a session with its history and cancels its runs. Error: NOT_FOUND.",
    args: { input: t.arg({ type: DeleteSessionInput, required: true, description: "Which session." }) },
    resolve: async (_root, { input: { sessionId } }, { conversations, viewer }) => {
      await conversations.deleteSession(viewer, sessionId);
      return { sessionId };
    },
  }),
  clearHistory: t.field({
    type: ClearHistoryPayload,
    description:
      "Removes all messages and cancels all runs; the session and its settings stay. Its cursors expire. Error: NOT_FOUND.",
    args: { input: t.arg({ type: ClearHistoryInput, required: true, description: "Which history." }) },
    resolve: (_root, { input: { sessionId } }, context, info) =>
      changed(context, info, (conversations, viewer, read) => conversations.clearHistory(viewer, sessionId, read)),
  }),
  forkSession: t.field({
    type: ForkSessionPayload,
    description:
      "Copies a history, or the beginning of it, into a session of its own. Errors: NOT_FOUND, SESSION_EXISTS, LIMIT_REACHED, INVALID_CURSOR, CURSOR_EXPIRED.",
    args: { input: t.arg({ type: ForkSessionInput, required: true, description: "What to copy, and to where." }) },
    resolve: (_root, { input }, context, info) => {
      const fork = {
        sessionId: input.sessionId,
        through: input.through ?? null,
        newSessionId: input.newSessionId ?? null,
        title: input.title ?? null,
        idempotencyKey: parseIdempotencyKey(input.idempotencyKey),
      };
      return changed(context, info, (conversations, viewer, read) => conversations.forkSession(viewer, fork, read));
    },
  }),
}));
