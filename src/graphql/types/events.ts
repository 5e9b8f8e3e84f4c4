import type { IfMissing } from "../../conversation/conversations/api.ts";
import { beginMessages, messageOf } from "../../conversation/conversations/messages-only.ts";
import type { SessionChange, SessionEvent } from "../../conversation/events.ts";
import { mapped } from "../../conversation/mapped.ts";
import type { PageRequest } from "../../conversation/session.ts";
import { builder } from "../builder.ts";
import { beginEvent } from "../context.ts";
import type { Context } from "../context.ts";
import { sessionGlobalId } from "../reading/global-ids.ts";
import { liveParents } from "../reading/live.ts";
import { pagesBelow } from "../reading/lookahead.ts";
import { MessageParent } from "../reading/message-parent.ts";
import { Readings, requestOf } from "../reading/readings.ts";
import { MessageRef, RunRef, SessionRef } from "../reading/refs.ts";
import type { RunParent, SessionParent } from "../reading/readings.ts";
import { PartAdded, PartChanged, PartProgress, ReplyProgress } from "./run-parts.ts";

// The domain's events with their nodes made ready: each event has readings of its own.

type OfKind<Event, Kind> = Extract<Event, { readonly kind: Kind }>;
type WithSession<Event> = Omit<Event, "session"> & { readonly session: SessionParent };

type Waiting = OfKind<SessionEvent, "waiting">;
type Opened = WithSession<OfKind<SessionEvent, "opened">>;
type Reset = WithSession<OfKind<SessionEvent, "reset">>;
type Part = OfKind<SessionEvent, "progress" | "partAdded" | "partProgress" | "partChanged">;
type Removed = OfKind<SessionEvent, "removed">;
type ListOpened = OfKind<SessionChange, "opened">;
interface Updated {
  readonly kind: "updated";
  readonly session: SessionParent;
}
interface Added {
  readonly kind: "added";
  readonly session: SessionParent;
}
interface Arrived {
  readonly kind: "message";
  readonly message: MessageParent;
}
interface Changed {
  readonly kind: "run";
  readonly run: RunParent;
}

type EventParent = Waiting | Opened | Arrived | Part | Changed | Updated | Reset | Removed;
type ChangeParent = ListOpened | Added | Updated | Removed;

function eventParent(event: SessionEvent, requests: readonly PageRequest[]): EventParent {
  const readings = new Readings();
  switch (event.kind) {
    case "opened":
    case "reset":
    case "updated":
      return { ...event, session: readings.give(event.session, requests) };
    case "message":
      return { kind: "message", message: new MessageParent(event.message, readings) };
    case "run":
      return { kind: "run", run: { run: event.run, readings } };
    case "waiting":
    case "progress":
    case "partAdded":
    case "partProgress":
    case "partChanged":
    case "removed":
      return event;
  }
}

function changeParent(change: SessionChange, requests: readonly PageRequest[]): ChangeParent {
  return change.kind === "added" || change.kind === "updated"
    ? { kind: change.kind, session: new Readings().give(change.session, requests) }
    : change;
}

/** What both streams of a session are asked with. */
interface StreamArguments {
  readonly sessionId: string;
  readonly after?: string | null | undefined;
  readonly ifMissing: IfMissing;
}

/** A browser that reconnects its EventSource repeats the first URL, so Last-Event-ID goes before `after`. */
function eventsOf(context: Context, { sessionId, after, ifMissing }: StreamArguments, pages: readonly PageRequest[]) {
  const { conversations, viewer, resume } = context;
  const from = resume.lastEventId === null || resume.lastEventId === "" ? (after ?? null) : resume.lastEventId;
  return conversations.sessionEvents(viewer, sessionId, from, ifMissing, requestOf(context, pages));
}

const StreamWaiting = builder.objectRef<Waiting>("StreamWaiting").implement({
  description:
    "The first event of sessionEvents where there is no such session yet. StreamOpened comes once somebody starts it, and behind it all that has happened since, from the first message on. Subscribing itself starts nothing.",
  fields: (t) => ({
    cursor: t.exposeString("cursor", { description: "In front of its first message: resume from it." }),
    sessionId: t.exposeString("sessionId", { description: "The id that was asked for." }),
  }),
});

const StreamOpened = builder.objectRef<Opened>("StreamOpened").implement({
  description: "The first event of sessionEvents, or the one behind StreamWaiting: from here on nothing is missed.",
  fields: (t) => ({
    cursor: t.exposeString("cursor", {
      description:
        "Where the stream starts: `after`, else behind the newest message; behind StreamWaiting, in front of the first one.",
    }),
    session: t.expose("session", {
      type: SessionRef,
      description:
        "The session as it is now; session.activeRun.text is the partial reply to start from, and session.activeRun.parts the parts. Behind StreamWaiting it is empty: its messages and runs follow as events.",
    }),
  }),
});

const MessageAdded = builder.objectRef<Arrived>("MessageAdded").implement({
  description: "A message has come, whoever wrote it.",
  fields: (t) => ({
    message: t.expose("message", {
      type: MessageRef,
      description: "The message; resume from its cursor.",
    }),
  }),
});

const RunChanged = builder.objectRef<Changed>("RunChanged").implement({
  description: "A run was queued, has begun or has ended.",
  fields: (t) => ({ run: t.expose("run", { type: RunRef, description: "The run as it is now." }) }),
});

const SessionUpdated = builder.objectRef<Updated>("SessionUpdated").implement({
  description:
    "Settings, title, archived or readCount have changed; in sessionChanged also new messages, and a run's start and end.",
  fields: (t) => ({
    session: t.expose("session", { type: SessionRef, description: "The session as it is now." }),
  }),
});

const HistoryReset = builder.objectRef<Reset>("HistoryReset").implement({
  description: "The history was cleared, rewound or lost: drop all messages with positions from `kept` on.",
  fields: (t) => ({
    kept: t.exposeInt("kept", {
      description:
        "How many positions still hold. More than 0: the messages behind them follow as MessageAdded. 0: read session.messages of this same event. If a turn begins with the reset, its RunChanged and MessageAdded follow in either case.",
    }),
    cursor: t.exposeString("cursor", {
      description: "The stream goes on behind it; cursors of messages below `kept` hold on.",
    }),
    session: t.expose("session", { type: SessionRef, description: "The session as it is now." }),
  }),
});

const SessionRemoved = builder.objectRef<Removed>("SessionRemoved").implement({
  description: "A session was deleted or has expired; sessionEvents ends after it.",
  fields: (t) => ({
    removedId: t.id({
      description: "The global id that it had, to drop it from a cache.",
      resolve: ({ sessionId }) => sessionGlobalId(sessionId),
    }),
    sessionId: t.exposeString("sessionId", { description: "The id that it had for LangChain code." }),
  }),
});

const SessionListOpened = builder.objectRef<ListOpened>("SessionListOpened").implement({
  description: "The first event of sessionChanged: a list read after it, with the events since, is complete.",
  fields: (t) => ({
    openedAt: t.expose("openedAt", { type: "DateTime", description: "When the stream began." }),
  }),
});

const SessionAdded = builder.objectRef<Added>("SessionAdded").implement({
  description: "A session of the viewer's has come.",
  fields: (t) => ({
    session: t.expose("session", { type: SessionRef, description: "The new session." }),
  }),
});

const SessionEventRef = builder.unionType("SessionEvent", {
  description:
    "What happens in a session. A turn always reads: RunChanged RUNNING, MessageAdded (user), ReplyProgress…, MessageAdded (reply), RunChanged ended. Among the ReplyProgress of a model that thinks come PartAdded and PartProgress, in the order of Run.parts. Where an agent calls tools, each step reads ReplyProgress, PartAdded and PartProgress as it writes the calls, PartChanged RUNNING and then DONE or FAILED of each call, and once all are answered MessageAdded of the message that calls them and of each answer; then it goes on as before. Where calls need an approval, the step reads PartChanged NEEDS_APPROVAL of each, RunChanged WAITING, PartChanged of each decision, RunChanged RUNNING, and only then RUNNING of the calls.",
  types: [
    StreamWaiting,
    StreamOpened,
    MessageAdded,
    ReplyProgress,
    PartAdded,
    PartProgress,
    PartChanged,
    RunChanged,
    SessionUpdated,
    HistoryReset,
    SessionRemoved,
  ],
  resolveType: ({ kind }) =>
    ({
      waiting: "StreamWaiting",
      opened: "StreamOpened",
      message: "MessageAdded",
      progress: "ReplyProgress",
      partAdded: "PartAdded",
      partProgress: "PartProgress",
      partChanged: "PartChanged",
      run: "RunChanged",
      updated: "SessionUpdated",
      reset: "HistoryReset",
      removed: "SessionRemoved",
    })[kind],
});

const SessionChangeRef = builder.unionType("SessionChange", {
  description: "What happens to the viewer's sessions.",
  types: [SessionListOpened, SessionAdded, SessionUpdated, SessionRemoved],
  resolveType: ({ kind }) =>
    ({ opened: "SessionListOpened", added: "SessionAdded", updated: "SessionUpdated", removed: "SessionRemoved" })[
      kind
    ],
});

const IfMissingRef = builder.enumType("IfMissing", {
  description:
    'What to do if the session does not exist yet. It applies if the stream begins at the beginning or now: `after` is left out, null, "" or a cursor in front of the first message. If `after` is a message\'s cursor, the session is gone: sessionEvents sends SessionRemoved and ends, messageAdded fails with NOT_FOUND.',
  values: {
    WAIT: {
      description:
        "Wait until somebody starts it, and miss nothing of it then. NOT_FOUND even so: an id that the viewer may not start, and a key that holds no history.",
    },
    REFUSE: { description: "NOT_FOUND." },
  } as const,
});

const streamArgs = builder.args((t) => ({
  sessionId: t.string({ required: true, description: "Which session; of one that there is not, see ifMissing." }),
  after: t.string({
    description:
      'First all that came after this cursor or Message.id; "": all from the beginning; left out or null: from now on. Over HTTP, Last-Event-ID goes before it.',
  }),
  ifMissing: t.field({
    type: IfMissingRef,
    required: true,
    defaultValue: "WAIT",
    description: "What to do where there is no such session yet.",
  }),
}));

builder.subscriptionFields((t) => ({
  messageAdded: t.field({
    type: MessageRef,
    description:
      "Every new message of one session, in order, none missed and none twice, whoever wrote it: this gateway, another instance, or LangChain code that pushed straight into Redis. Ends with the error CURSOR_EXPIRED when the history is reset and NOT_FOUND when the session goes.",
    args: streamArgs,
    subscribe: async (_root, args, context) => {
      const events = await eventsOf(context, args, []);
      // A client that is cut off before the first message resumes from here.
      context.resume.cursor = await beginMessages(events);
      return liveParents(context, events, (event) => {
        const message = messageOf(event);
        return message === null ? null : new MessageParent(message, new Readings());
      });
    },
    resolve: (message) => message,
  }),
  sessionEvents: t.field({
    type: SessionEventRef,
    description:
      "All that happens in a session. First StreamOpened (StreamWaiting where there is none yet), then all messages after `after`, then what happens. An `after` that no longer holds brings HistoryReset; one that is no cursor is INVALID_CURSOR. To resume: `after` = the newest cursor that an event brought. Every event can be applied twice without harm.",
    args: streamArgs,
    subscribe: async (_root, args, context, info) => {
      const pages = pagesBelow(info);
      const events = await eventsOf(context, args, pages);
      return liveParents(context, events, (event) => eventParent(event, pages));
    },
    resolve: (event) => event,
  }),
  sessionChanged: t.field({
    type: SessionChangeRef,
    description:
      "The viewer's sessions as they appear, change and go, for a sidebar; not once a token. The first event is always SessionListOpened.",
    subscribe: async (_root, _args, context, info) => {
      const { conversations, viewer, signal } = context;
      const pages = pagesBelow(info);
      const changes = await conversations.sessionChanged(viewer, requestOf(context, pages), signal);
      return mapped(changes, (change) => {
        beginEvent(context);
        return changeParent(change, pages);
      });
    },
    resolve: (change) => change,
  }),
}));
