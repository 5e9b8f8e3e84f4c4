import type { ReadRequest, TurnResult } from "../../../src/conversation/conversations/api.ts";
import type { Conversations } from "../../../src/conversation/conversations/conversations.ts";
import { messagesOf } from "../../../src/conversation/conversations/messages-only.ts";
import { parseCursor } from "../../../src/conversation/message/cursor.ts";
import { notFound, ParleyError } from "../../../src/conversation/errors.ts";
import type { PlacedMessage, SessionChange, SessionEvent } from "../../../src/conversation/events.ts";
import { markOf, sessionTag } from "../../../src/conversation/message/ids.ts";
import type { Row } from "../../../src/conversation/message/message.ts";
import type { Run } from "../../../src/conversation/run.ts";
import type { MessagePage, PageRequest, Session } from "../../../src/conversation/session.ts";
import { PushSource } from "./push-source.ts";

type Method = {
  [Name in keyof Conversations]: Conversations[Name] extends (...args: never) => unknown ? Name : never;
}[keyof Conversations];

const plainModel = { kind: "MODEL", description: null, tools: () => Promise.resolve([]) } as const;

/** The port in plain memory: no rules, only what it was told, what it answers and what was asked of it. */
export class FakeConversations implements Conversations {
  readonly models = () => [
    { name: "offline", isDefault: true, ...plainModel },
    { name: "openai:gpt-4o-mini", isDefault: false, ...plainModel },
  ];
  readonly takesPageTools = () => false;
  readonly defaults = {
    model: "offline",
    memory: { strategy: "WINDOW", maxTurns: 10, maxTokens: null },
  } as const;
  readonly calls: { readonly method: Method; readonly args: readonly unknown[] }[] = [];
  readonly events = new PushSource<SessionEvent>();
  readonly changes = new PushSource<SessionChange>();
  readonly #sessions = new Map<string, Session>();
  readonly #rows = new Map<string, Row[]>();
  readonly #runs = new Map<string, Run>();

  /** The arguments of each call, the viewer first. */
  callsOf<Name extends Method>(name: Name): readonly Parameters<Conversations[Name]>[] {
    // Safe: each method below notes its own name and its own arguments, all of them.
    return this.calls
      .filter(({ method }) => method === name)
      .map(({ args }) => args as Parameters<Conversations[Name]>);
  }

  /** A session with these rows as they lie in Redis, oldest first. */
  put(sessionId: string, raws: readonly string[], changes: Partial<Session> = {}): Session {
    const rows = raws.map((raw, position) => ({ position, mark: markOf(raw), raw }));
    this.#rows.set(sessionId, rows);
    const session = { ...emptySession(sessionId), ...changes };
    this.#sessions.set(sessionId, session);
    return this.session(sessionId, []);
  }

  putRun(run: Run): Run {
    this.#runs.set(run.runId, run);
    return run;
  }

  /** A reading, as readSession and the events give it. */
  session(sessionId: string, pages: readonly PageRequest[]): Session {
    const session = this.#sessions.get(sessionId) ?? emptySession(sessionId);
    const rows = this.#rows.get(sessionId) ?? [];
    return {
      ...session,
      end: rows.length,
      tipMark: rows.at(-1)?.mark ?? "",
      messageCount: rows.length,
      pages: pages.map((page) => pageOf(sessionId, rows, page)),
    };
  }

  placed(sessionId: string, position: number): PlacedMessage {
    const row = this.#rows.get(sessionId)?.[position];
    if (row === undefined) throw new Error(`The fake has no message ${position} in ${sessionId}.`);
    return { sessionId, historyKey: sessionId, generation: 1, row };
  }

  readSession: Conversations["readSession"] = (...args) => {
    this.calls.push({ method: "readSession", args });
    const [, sessionId, { pages }] = args;
    return Promise.resolve(this.#sessions.has(sessionId) ? this.session(sessionId, pages) : null);
  };

  listSessions: Conversations["listSessions"] = (...args) => {
    this.calls.push({ method: "listSessions", args });
    const items = [...this.#sessions.keys()].map((sessionId) => ({
      cursor: `cursor-of-${sessionId}`,
      session: this.session(sessionId, args[3].pages),
    }));
    return Promise.resolve({ items, hasNextPage: false, hasPreviousPage: false, startCursor: null, endCursor: null });
  };

  readMessage: Conversations["readMessage"] = (...args) => {
    this.calls.push({ method: "readMessage", args });
    const [, sessionId, localId] = args;
    const row = this.#rows.get(sessionId)?.find(({ raw }) => raw.includes(`"id":"${localId}"`));
    return Promise.resolve(row === undefined ? null : { sessionId, historyKey: sessionId, generation: 1, row });
  };

  readRun: Conversations["readRun"] = (...args) => {
    this.calls.push({ method: "readRun", args });
    return Promise.resolve(this.#runs.get(args[2]) ?? null);
  };

  messagesOfRun: Conversations["messagesOfRun"] = (...args) => {
    this.calls.push({ method: "messagesOfRun", args });
    return Promise.resolve([]);
  };

  createSession: Conversations["createSession"] = (...args) => {
    this.calls.push({ method: "createSession", args });
    return Promise.resolve(this.session(args[1].sessionId ?? "made", args[2].pages));
  };

  updateSession: Conversations["updateSession"] = (...args) => {
    this.calls.push({ method: "updateSession", args });
    return Promise.resolve(this.session(args[1].sessionId, args[2].pages));
  };

  markRead: Conversations["markRead"] = (...args) => {
    this.calls.push({ method: "markRead", args });
    return Promise.resolve(this.session(args[1], args[3].pages));
  };

  generateTitle: Conversations["generateTitle"] = (...args) => {
    this.calls.push({ method: "generateTitle", args });
    return Promise.resolve({ session: this.session(args[1], args[3].pages), error: null });
  };

  deleteSession: Conversations["deleteSession"] = (...args) => {
    this.calls.push({ method: "deleteSession", args });
    return Promise.resolve();
  };

  clearHistory: Conversations["clearHistory"] = (...args) => {
    this.calls.push({ method: "clearHistory", args });
    return Promise.resolve(this.session(args[1], args[2].pages));
  };

  forkSession: Conversations["forkSession"] = (...args) => {
    this.calls.push({ method: "forkSession", args });
    return Promise.resolve(this.session(args[1].newSessionId ?? "made", args[2].pages));
  };

  addMessages: Conversations["addMessages"] = (...args) => {
    this.calls.push({ method: "addMessages", args });
    return Promise.resolve({ messages: [], session: this.session(args[1].sessionId, args[2].pages) });
  };

  /** The run is what putRun was given last, RUNNING; its reply is there when it was waited for. */
  sendMessage: Conversations["sendMessage"] = (...args) => {
    this.calls.push({ method: "sendMessage", args });
    return Promise.resolve(this.#turn(args[1].sessionId ?? "made", args[2], args[3]));
  };

  regenerateReply: Conversations["regenerateReply"] = (...args) => {
    this.calls.push({ method: "regenerateReply", args });
    return Promise.resolve(this.#turn(args[1].sessionId, args[2], args[3]));
  };

  awaitRun: Conversations["awaitRun"] = (...args) => {
    this.calls.push({ method: "awaitRun", args });
    return Promise.resolve(this.#ended(args[1]));
  };

  cancelRun: Conversations["cancelRun"] = (...args) => {
    this.calls.push({ method: "cancelRun", args });
    const run = this.#runs.get(args[2]);
    return run === undefined ? Promise.reject(notFound("run")) : Promise.resolve({ ...run, status: "CANCELLED" });
  };

  respondToRun: Conversations["respondToRun"] = (...args) => {
    this.calls.push({ method: "respondToRun", args });
    const run = this.#runs.get(args[2]);
    const session = this.#sessions.get(args[1]);
    return run === undefined || session === undefined
      ? Promise.reject(notFound("run"))
      : Promise.resolve({ run, session });
  };

  sessionEvents: Conversations["sessionEvents"] = (...args) => {
    this.calls.push({ method: "sessionEvents", args });
    return Promise.resolve(this.events);
  };

  messageAdded: Conversations["messageAdded"] = (...args) => {
    this.calls.push({ method: "messageAdded", args });
    return Promise.resolve(messagesOf(this.events));
  };

  sessionChanged: Conversations["sessionChanged"] = (...args) => {
    this.calls.push({ method: "sessionChanged", args });
    return Promise.resolve(this.changes);
  };

  #turn(sessionId: string, read: ReadRequest | null, wait: boolean): TurnResult {
    const run = wait ? this.#ended(sessionId) : runningRun(sessionId);
    const reply = run.replyRow && { sessionId, historyKey: sessionId, generation: 1, row: run.replyRow };
    return { run, userMessage: null, reply, session: read && this.session(sessionId, read.pages) };
  }

  #ended(sessionId: string): Run {
    const raw = stored("ai", "Hello, Jim.", { id: "reply" });
    const replyRow = { position: 1, mark: markOf(raw), raw };
    return { ...runningRun(sessionId), status: "COMPLETED", text: "Hello, Jim.", replyRow, finishedAt: 2000 };
  }
}

/** A row as LangChain JS writes it. */
export function stored(type: string, content: unknown, data: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({ type, data: { content, additional_kwargs: {}, response_metadata: {}, ...data } });
}

/** A row that carries the gateway's own note for where it lies. */
export function noted(sessionId: string, position: number, id: string, run: string | null, content = "hi"): string {
  const parley = { session: sessionTag(sessionId), position, run, hint: null };
  return stored("human", content, { id, response_metadata: { parley } });
}

export function runningRun(sessionId: string, changes: Partial<Run> = {}): Run {
  return {
    runId: "01890a5d-ac96-774b-bcce-b302099a8057",
    sessionId,
    historyKey: sessionId,
    generation: 1,
    status: "RUNNING",
    model: "offline",
    queuedAt: 1000,
    startedAt: 1000,
    finishedAt: null,
    waitsUntil: null,
    inputRow: null,
    userRow: null,
    inputLocalId: null,
    replyLocalId: "~1~reply",
    replyRow: null,
    rows: null,
    text: "",
    log: "",
    error: null,
    usage: null,
    notes: [],
    isStructured: false,
    ...changes,
  };
}

function emptySession(sessionId: string): Session {
  return {
    sessionId,
    historyKey: sessionId,
    owner: "anonymous",
    title: null,
    instructions: null,
    model: null,
    memory: null,
    summary: null,
    metadata: {},
    archived: false,
    createdAt: 0,
    updatedAt: 0,
    ttlSeconds: null,
    expiresAt: null,
    generation: 1,
    base: 0,
    end: 0,
    tipMark: "",
    messageCount: 0,
    readCount: 0,
    usage: { inputTokens: 0, outputTokens: 0, totalTokens: 0 },
    activeRun: null,
    lastRun: null,
    queuedRuns: [],
    forkedFrom: null,
    pages: [],
    sequence: 0,
    state: "",
  };
}

function pageOf(historyKey: string, rows: readonly Row[], page: PageRequest): MessagePage | Error {
  const after = page.after === null ? null : parseCursor(historyKey, page.after);
  const before = page.before === null ? null : parseCursor(historyKey, page.before);
  if ((page.after !== null && after === null) || (page.before !== null && before === null)) {
    return new ParleyError("INVALID_CURSOR", "This is no cursor of this session.");
  }
  const within = rows.slice(after === null ? 0 : after.position + 1, before?.position ?? rows.length);
  const cut = page.first === null ? within.slice(-(page.last ?? 0)) : within.slice(0, page.first);
  return {
    rows: cut,
    hasPreviousPage: (cut[0]?.position ?? 0) > 0,
    hasNextPage: (cut.at(-1)?.position ?? rows.length) < rows.length - 1,
  };
}
