import type { SessionEvent } from "../../conversation/events.ts";
import { typedContent } from "../../conversation/message/typed-content.ts";
import { argsOf, isUndecided, partsOf, type RunPart } from "../../conversation/part-log.ts";
import { isFinal, type Run } from "../../conversation/run.ts";
import { builder } from "../builder.ts";
import { ContentBlockRef } from "./content.ts";
import { messageGlobalId, runGlobalId } from "../reading/global-ids.ts";

type OfKind<Of, Kind> = Extract<Of, { readonly kind: Kind }>;

export type Progress = OfKind<SessionEvent, "progress">;
type Added = OfKind<SessionEvent, "partAdded">;
type Grown = OfKind<SessionEvent, "partProgress">;
type Changed = OfKind<SessionEvent, "partChanged">;

/** A part needs the session to tell the Message.id. */
type RunPartParent = RunPart & { readonly sessionId: string };

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

const ToolStatusRef = builder.enumType("ToolStatus", {
  description: "What has become of an agent's call of a tool.",
  values: {
    WRITING: { description: "The model is writing its arguments." },
    NEEDS_APPROVAL: {
      description:
        "It does not begin before respondToRun has decided on it and on all others that its message calls: see `allowed` and `decided`.",
    },
    NEEDS_RESULT: {
      description:
        "A page is to carry it out: it begins the call by respondToRun, unless others of the same message wait for an approval (then `allowed` is empty), and brings its result.",
    },
    RUNNING: { description: "The tool has begun, or begins as soon as others have ended." },
    DONE: { description: "The tool has answered: see `result`." },
    FAILED: { description: "The tool failed, or was not called: what the model was told instead is in `result`." },
    REJECTED: { description: "respondToRun has rejected it: what the model is told is in `result`." },
    CANCELLED: { description: "The run ended before the tool began." },
    UNKNOWN: { description: "The run ended after the tool began: it may or may not have taken effect." },
  } as const,
});

const DecisionKindRef = builder.enumType("DecisionKind", {
  description: "What respondToRun may decide on a call. More kinds will come.",
  values: {
    BEGIN: { description: "A page takes the call, before it acts: one does, once." },
    APPROVE: { description: "The tool is called as the model wrote it." },
    EDIT: { description: "The tool is called with other arguments." },
    REJECT: { description: "The tool is not called, and the model is told so." },
    RESULT: { description: "What came of a call that a page has begun." },
  } as const,
});

export const ToolPartRef = builder.objectRef<OfKind<RunPartParent, "tool">>("ToolPart").implement({
  description:
    "A call of a tool by an agent. `argsText` grows by PartProgress, all else comes by PartChanged. A tool is begun once at most.",
  fields: (t) => ({
    messageId: t.id({ description: messageIdDescription, resolve: messageIdOf }),
    callId: t.exposeString("callId", { description: "Names the call, within its run." }),
    name: t.exposeString("name", { description: "The tool's name." }),
    argsText: t.exposeString("argsText", { description: "The arguments as the model writes them, as JSON." }),
    args: t.field({
      type: "JSON",
      nullable: true,
      description:
        "The arguments as an object, or those that respondToRun gave instead; null until they are complete, if they are no object, and if they are too long for a run's parts.",
      resolve: ({ argsText, args, status }) =>
        args === undefined ? (status === "WRITING" ? null : argsOf(argsText)) : args,
    }),
    status: t.expose("status", { type: ToolStatusRef, description: "How far it is." }),
    revision: t.exposeInt("revision", {
      description: "Grows with each change: ignore a part with a lower one than you have.",
    }),
    result: t.field({
      type: [ContentBlockRef],
      description:
        "What the tool answered. If that is too long for a run's parts, its text without images, sounds and files, or nothing, and Run.notes says so: the TOOL message has the text.",
      resolve: ({ content }) => (content === undefined ? [] : typedContent({ content })),
    }),
    failed: t.boolean({
      nullable: true,
      description: "Whether the tool failed, or was not called; null until it is answered.",
      resolve: ({ status }) => (status === "DONE" ? false : status === "FAILED" || status === "REJECTED" ? true : null),
    }),
    allowed: t.field({
      type: [DecisionKindRef],
      description: "What respondToRun may decide on it now; empty where nobody is asked, and once that is decided.",
      resolve: ({ allowed = [] }) => allowed,
    }),
    decided: t.expose("decided", {
      type: DecisionKindRef,
      nullable: true,
      description: "What respondToRun has decided on it; null until then, and where nobody was asked.",
    }),
    startedAt: t.expose("startedAt", {
      type: "DateTime",
      nullable: true,
      description: "When it began; null until then.",
    }),
    finishedAt: t.expose("finishedAt", {
      type: "DateTime",
      nullable: true,
      description: "When it answered; null until then.",
    }),
  }),
});

const DataPartRef = builder.objectRef<OfKind<RunPartParent, "data">>("DataPart").implement({
  description: "What a tool tells while it works, such as how far it is.",
  fields: (t) => ({
    messageId: t.id({ description: messageIdDescription, resolve: messageIdOf }),
    callId: t.exposeString("callId", { description: "The call that it is of." }),
    name: t.exposeString("name", { description: "The tool's own name for it." }),
    data: t.expose("data", { type: "JSON", description: "What it tells." }),
  }),
});

export const RunPartRef = builder.unionType("RunPart", {
  description: "A part of what a run makes. More kinds will come.",
  types: [TextPart, ReasoningPart, ToolPartRef, DataPartRef],
  resolveType: ({ kind }) =>
    ({ text: "TextPart", reasoning: "ReasoningPart", tool: "ToolPart", data: "DataPart" })[kind],
});

/** The calls that somebody has to decide on, or to carry out. */
export function approvalsOfRun({ status, ...run }: Run) {
  if (status !== "WAITING") return [];
  return partsOf(run.log, run.text, run.replyLocalId)
    .filter(isUndecided)
    .map((part) => ({ ...part, sessionId: run.sessionId }));
}

export function partsOfRun({ sessionId, log, text, replyLocalId, status }: Run): readonly RunPartParent[] {
  return partsOf(log, text, replyLocalId, isFinal(status)).map((part) => ({ ...part, sessionId }));
}

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

function partEvent(name: string, description: string, part: string) {
  return builder.objectRef<Added | Changed>(name).implement({
    description,
    fields: (t) => ({
      runId: t.id({ description: "The Run.id.", resolve: ({ sessionId, runId }) => runGlobalId(sessionId, runId) }),
      index: t.exposeInt("index", { description: indexDescription }),
      part: t.field({
        type: RunPartRef,
        description: part,
        resolve: (event) => ({ ...event.part, sessionId: event.sessionId }),
      }),
    }),
  });
}

export const PartAdded = partEvent(
  "PartAdded",
  "A run has begun a part that is no text. Skip it where you have a part at this index.",
  "The part as it begins.",
);

export const PartChanged = partEvent(
  "PartChanged",
  "A part has changed: replace yours with it, unless yours has a higher revision.",
  "The part as it is now.",
);

export const PartProgress = builder.objectRef<Grown>("PartProgress").implement({
  description:
    "More text of a ReasoningPart, or of ToolPart.argsText. Text is only ever added: skip one that ends within what you have.",
  fields: (t) => ({
    runId: t.id({ description: "The Run.id.", resolve: ({ sessionId, runId }) => runGlobalId(sessionId, runId) }),
    index: t.exposeInt("index", { description: indexDescription }),
    offset: t.exposeInt("offset", {
      description: "Where in the part `text` goes, in UTF-16 units; never beyond its end.",
    }),
    text: t.exposeString("text", { description: "The text; never cuts a surrogate pair." }),
  }),
});
