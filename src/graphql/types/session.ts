import { actingFor } from "../../conversation/conversations/access.ts";
import { encodeCursor } from "../../conversation/message/cursor.ts";
import { badInput } from "../../conversation/errors.ts";
import { isObject } from "../../conversation/message/json.ts";
import type { Session } from "../../conversation/session.ts";
import { builder } from "../builder.ts";
import { sessionGlobalId } from "../reading/global-ids.ts";
import { listSize } from "../limits-cost.ts";
import { pagesBelow, pagesOf } from "../reading/lookahead.ts";
import { MemorySettingsRef } from "./memory.ts";
import { MessageConnection, messageConnection, TokenUsageRef } from "./message.ts";
import { connectionOf, limits, messagePage, sessionPage } from "../reading/paging.ts";
import { messagePageArgs, sessionPageArgs } from "../reading/page-args.ts";
import { pageOf, Readings, readingsOfQuery, requestOf } from "../reading/readings.ts";
import { RunRef, SessionRef } from "../reading/refs.ts";

/** Behind the newest message, or before the first: `after` it, nothing is missed. */
function cursorOf({ historyKey, generation, end, tipMark }: Session): string {
  return encodeCursor(historyKey, { generation, position: tipMark === "" ? -1 : end - 1, mark: tipMark });
}

/** A sum over years of runs may pass what GraphQL's Int holds, and would fail the whole session then. */
function clampToInt(count: number): number {
  return Math.min(count, 2 ** 31 - 1);
}

SessionRef.implement({
  description:
    "A conversation: a LangChain history in Redis and what the gateway knows about it. Within one operation (or one event) all its fields come from one reading.",
  interfaces: [builder.nodeInterfaceRef()],
  fields: (t) => ({
    id: t.id({ description: "Global id.", resolve: ({ session }) => sessionGlobalId(session.sessionId) }),
    sessionId: t.exposeString("sessionId", {
      description: "The id that LangChain code passes to RedisChatMessageHistory.",
    }),
    title: t.exposeString("title", {
      nullable: true,
      description: "null until it is set or generated.",
    }),
    instructions: t.exposeString("instructions", {
      nullable: true,
      description:
        "The system prompt, given to the model ahead of the history and taken literally; null: none of its own.",
    }),
    model: t.string({
      description: 'The model that replies: "provider:name", e.g. "openai:gpt-4o-mini", or "offline".',
      resolve: ({ session }, _args, { conversations }) => session.model ?? conversations.defaults.model,
    }),
    memory: t.field({
      type: MemorySettingsRef,
      description: "How much of the history the model sees.",
      resolve: ({ session }, _args, { conversations }) => ({
        ...(session.memory ?? conversations.defaults.memory),
        summary: session.summary,
      }),
    }),
    metadata: t.expose("metadata", {
      type: "JSON",
      description: "The caller's own keys and values; always an object.",
    }),
    archived: t.exposeBoolean("archived", {
      description: "Whether it is put away: `sessions` leaves it out unless asked.",
    }),
    createdAt: t.expose("createdAt", {
      type: "DateTime",
      nullable: true,
      description: "When the gateway started it; null for a history that it did not start.",
    }),
    updatedAt: t.expose("updatedAt", {
      type: "DateTime",
      nullable: true,
      description:
        "Of the newest message (of the start while empty); a rename, archiving or reading does not move it. Never null in `sessions`.",
    }),
    ttlSeconds: t.exposeInt("ttlSeconds", {
      nullable: true,
      description: "How long it lives from its last write on, in seconds (sliding); null: it never expires.",
    }),
    expiresAt: t.expose("expiresAt", {
      type: "DateTime",
      nullable: true,
      description: "When it expires if nothing is written until then; null: never.",
    }),
    messageCount: t.int({
      description:
        "How many messages it has had since its history was last reset. Those that retention dropped (MAX_MESSAGES_PER_SESSION) count on, so that positions and readCount go with it.",
      resolve: ({ session }) => session.end,
    }),
    readCount: t.exposeInt("readCount", {
      description:
        "Positions below it were read: unread = messageCount - readCount. markRead and sendMessage raise it.",
    }),
    cursor: t.string({
      description: "Behind the newest message, there also while empty: `after` it, a subscription misses nothing.",
      resolve: ({ session }) => cursorOf(session),
    }),
    messages: t.field({
      type: MessageConnection,
      description:
        "Its messages, oldest first in every page. With neither first nor last: the last 50; at most 200; both are BAD_USER_INPUT. INVALID_CURSOR: it is no cursor. CURSOR_EXPIRED: its message was cut, cleared or lost.",
      args: messagePageArgs,
      extensions: listSize({ by: "page", ...limits.messages }),
      resolve: async (parent, args, context) => {
        const page = await pageOf(context, parent, messagePage(args));
        return messageConnection(parent, page);
      },
    }),
    activeRun: t.field({
      type: RunRef,
      nullable: true,
      description:
        "The reply that is being made now (RUNNING), or waits for approvals or results (WAITING); null: none. Its `text` is the reply so far.",
      resolve: ({ session, readings }) => (session.activeRun === null ? null : { run: session.activeRun, readings }),
    }),
    lastRun: t.field({
      type: RunRef,
      nullable: true,
      description:
        "The newest run that has begun: activeRun, or the last that ended. After a reload, this is where a client finds a reply that FAILED.",
      resolve: ({ session, readings }) => (session.lastRun === null ? null : { run: session.lastRun, readings }),
    }),
    queuedRuns: t.field({
      type: [RunRef],
      description: "The runs that wait, next first.",
      resolve: ({ session, readings }) => session.queuedRuns.map((run) => ({ run, readings })),
    }),
    totalUsage: t.field({
      type: TokenUsageRef,
      description: "Tokens summed over all its runs.",
      resolve: ({ session: { usage } }) => ({
        inputTokens: clampToInt(usage.inputTokens),
        outputTokens: clampToInt(usage.outputTokens),
        totalTokens: clampToInt(usage.totalTokens),
      }),
    }),
    forkedFrom: t.field({
      type: SessionRef,
      nullable: true,
      description: "The session that it was forked from; null: it is no fork, or its origin is gone.",
      resolve: ({ session, readings }, _args, context, info) =>
        session.forkedFrom === null ? null : readings.read(context, session.forkedFrom, () => pagesBelow(info)),
    }),
  }),
});

const SessionEdge = builder.edgeObject({
  type: SessionRef,
  name: "SessionEdge",
  description: "A session and its cursor.",
});

const SessionConnection = builder.connectionObject(
  {
    type: SessionRef,
    name: "SessionConnection",
    description: "A page of the viewer's sessions, newest updatedAt first.",
  },
  SessionEdge,
);

const SessionFilter = builder.inputType("SessionFilter", {
  description: "Which sessions to list. All given conditions hold.",
  fields: (t) => ({
    titleContains: t.string({ description: "Text that the title contains, in capitals or not." }),
    archived: t.boolean({ description: "true: only archived ones; false or left out: only the others; null: both." }),
    metadata: t.field({
      type: "JSON",
      description: 'Keys of the metadata that have these values: {"project": "apollo"}. An object.',
    }),
    updatedAfter: t.field({ type: "DateTime", description: "Only those with a message after this moment." }),
    owner: t.string({
      description: "Another subject's sessions instead of the viewer's. Needs the scope admin, else FORBIDDEN.",
    }),
  }),
});

type GivenFilter = typeof SessionFilter.$inferInput;

function parseFilter(filter: GivenFilter | null | undefined) {
  const metadata = filter?.metadata ?? null;
  if (metadata !== null && !isObject(metadata)) {
    throw badInput("filter.metadata", "The metadata to look for is an object of keys and values.");
  }
  return {
    titleContains: filter?.titleContains ?? null,
    archived: filter?.archived === undefined ? false : filter.archived,
    metadata,
    updatedAfter: filter?.updatedAfter ?? null,
  };
}

builder.queryFields((t) => ({
  session: t.field({
    type: SessionRef,
    nullable: true,
    description: "One session; null where there is none, or where it is another's.",
    args: {
      sessionId: t.arg.string({
        required: true,
        description: "The id that LangChain code passes to RedisChatMessageHistory.",
      }),
    },
    resolve: (_root, { sessionId }, context, info) =>
      readingsOfQuery(context).read(context, sessionId, () => pagesOf(info, sessionId)),
  }),
  sessions: t.field({
    type: SessionConnection,
    description:
      "The viewer's sessions, newest updatedAt first. With neither first nor last: the first 20; at most 100; both are BAD_USER_INPUT. The cursors stay valid. A session that moves up meanwhile is neither repeated nor lost for a client that also subscribes to sessionChanged. With a filter a page looks through 5,000 sessions at most and may have fewer than were asked for, or none: while hasNextPage is true, endCursor is where to go on.",
    args: {
      ...sessionPageArgs,
      filter: t.arg({ type: SessionFilter, description: "Which ones; if left out, all that are not archived." }),
    },
    extensions: listSize({ by: "page", ...limits.sessions }),
    resolve: async (_root, { filter, ...args }, context, info) => {
      const { conversations, viewer } = context;
      const requests = pagesBelow(info);
      const owner = filter?.owner ?? null;
      const lister = owner === null ? viewer : actingFor(viewer, owner);
      const page = await conversations.listSessions(
        lister,
        sessionPage(args),
        parseFilter(filter),
        requestOf(context, requests),
      );
      const edges = page.items.map(({ cursor, session }) => ({
        cursor,
        // Each with readings of its own: the list may lie a moment apart from what else the query reads.
        node: new Readings(lister).give(session, requests),
      }));
      return connectionOf(edges, page);
    },
  }),
}));
