import type { SessionEvent } from "../../conversation/events.ts";
import type { RunPart } from "../../conversation/part-log.ts";
import { builder } from "../builder.ts";
import { messageGlobalId, runGlobalId } from "../reading/global-ids.ts";

type OfKind<Of, Kind> = Extract<Of, { readonly kind: Kind }>;

export type Progress = OfKind<SessionEvent, "progress">;
type Added = OfKind<SessionEvent, "partAdded">;
type Grown = OfKind<SessionEvent, "partProgress">;

/** A part needs the session to tell the Message.id. */
export type RunPartParent = RunPart & { readonly sessionId: string };

const messageIdDescription = "The Message.id that the message has, or will have, which it is part of.";
const messageIdOf = ({ sessionId, messageLocalId }: RunPartParent): string =>
  messageGlobalId(sessionId, messageLocalId);

const TextPart = builder.objectRef<OfKind<RunPartParent, "text">>("TextPart").implement({
  description: "Text of a reply. It grows by ReplyProgress.",
  fields: (t) => ({
    messageId: t.id({ description: messageIdDescription, resolve: messageIdOf }),
    start: t.exposeInt("start", {
      description: "Where in the message's text it begins, in UTF-16 units: over 0 behind reasoning in mid-message.",
    }),
    text: t.exposeString("text", { description: "The text of this part." }),
  }),
});

const ReasoningPart = builder.objectRef<OfKind<RunPartParent, "reasoning">>("ReasoningPart").implement({
  description:
    "What a model thought on the way to its reply, where its provider tells it. It grows by PartProgress. Of long reasoning it is the beginning; then Run.notes says so.",
  fields: (t) => ({
    messageId: t.id({ description: messageIdDescription, resolve: messageIdOf }),
    text: t.exposeString("text", { description: "The reasoning, as the provider tells it." }),
  }),
});

export const RunPartRef = builder.unionType("RunPart", {
  description: "A part of what a run makes. More kinds will come.",
  types: [TextPart, ReasoningPart],
  resolveType: ({ kind }) => ({ text: "TextPart", reasoning: "ReasoningPart" })[kind],
});

export const ReplyProgress = builder.objectRef<Progress>("ReplyProgress").implement({
  description:
    "More text of the reply that is being made. Text is only ever added: skip one that ends within what you have.",
  fields: (t) => ({
    runId: t.id({ description: "The Run.id.", resolve: ({ sessionId, runId }) => runGlobalId(sessionId, runId) }),
    replyId: t.id({
      description: "The Message.id that the reply will have.",
      resolve: ({ sessionId, replyLocalId }) => messageGlobalId(sessionId, replyLocalId),
    }),
    index: t.exposeInt("index", {
      description:
        "Which of Run.parts the text goes into. One that you don't have is a new TextPart with `start` = `offset`.",
    }),
    offset: t.exposeInt("offset", {
      description: "Where in the reply `text` goes, in UTF-16 units (JavaScript's string index); never beyond its end.",
    }),
    text: t.exposeString("text", { description: "The text; never cuts a surrogate pair." }),
  }),
});

const indexDescription = "Its place in Run.parts, which never changes.";

export const PartAdded = builder.objectRef<Added>("PartAdded").implement({
  description: "A run has begun a part that is no text. Skip it where you have a part at this index.",
  fields: (t) => ({
    runId: t.id({ description: "The Run.id.", resolve: ({ sessionId, runId }) => runGlobalId(sessionId, runId) }),
    index: t.exposeInt("index", { description: indexDescription }),
    part: t.field({
      type: RunPartRef,
      description: "The part as it begins.",
      resolve: ({ sessionId, part }) => ({ ...part, sessionId }),
    }),
  }),
});

export const PartProgress = builder.objectRef<Grown>("PartProgress").implement({
  description:
    "More text of a part that is no text of the reply. It is only ever added: skip one that ends within what you have.",
  fields: (t) => ({
    runId: t.id({ description: "The Run.id.", resolve: ({ sessionId, runId }) => runGlobalId(sessionId, runId) }),
    index: t.exposeInt("index", { description: indexDescription }),
    offset: t.exposeInt("offset", {
      description: "Where in the part `text` goes, in UTF-16 units; never beyond its end.",
    }),
    text: t.exposeString("text", { description: "The text; never cuts a surrogate pair." }),
  }),
});
