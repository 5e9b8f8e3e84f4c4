import { answered, applyEvent, emptyChat, isStored, messagesOf, notSent, place, unreadOf } from "./chat.ts";
import type { Chat, Outgoing } from "./chat.ts";
import * as documents from "./documents.ts";
import type { OpenSessionRow, PageRow, RunRow, SessionEvent, SessionRow } from "./documents.ts";
import { ParleyError } from "./error.ts";
import { contentOf, inputOf, replyMessages, sentMessage, storedMessage } from "./message.ts";
import type { ChatMessage, Content, StoredMessage } from "./message.ts";
import { PageTools } from "./page-tools.ts";
import type { PageTool, ToolFunction } from "./page-tools.ts";
import { hasEnded, lostRun, runOf } from "./run.ts";
import type { Decision, RunInfo } from "./run.ts";
import { infoOf } from "./session-info.ts";
import type { SessionInfo, SessionSettings } from "./session-info.ts";
import { createStore } from "./store.ts";
import type { Connection, OwnStore, Store } from "./store.ts";
import type { Transport } from "./transport.ts";

export interface SessionSnapshot {
  readonly sessionId: string;
  readonly connection: Connection;
  /** What a screen shows, oldest first: stored messages, optimistic ones, the reply that streams or failed, what waits. */
  readonly messages: readonly ChatMessage[];
  /** The run whose reply streams. */
  readonly run: RunInfo | null;
  /** The calls of the page's tools that this tab is carrying out. Others of `run.approvals` wait for somebody. */
  readonly acting: readonly string[];
  /** The runs that wait, next first. */
  readonly queued: readonly RunInfo[];
  /** null: not known yet, or there is none. */
  readonly session: SessionInfo | null;
  readonly unread: number;
  readonly hasOlder: boolean;
  readonly loadingOlder: boolean;
  /** Why the connection is closed. */
  readonly error: Error | null;
}

export interface SendOptions {
  /** The caller's own id, a UUID for example: sent again with it, it is the same message. Made where left out. */
  readonly messageId?: string;
  /** For this reply alone. */
  readonly model?: string;
  /** What to do while another reply is being made: QUEUE for send, INTERRUPT for edit and regenerate and where the run is WAITING, unless said. */
  readonly whenBusy?: "QUEUE" | "REJECT" | "INTERRUPT";
  /** Of the page's own, for this reply alone; those of `setTools` unless said. */
  readonly tools?: readonly PageTool[];
  /** How the session is to be if this message starts it. */
  readonly newSession?: SessionSettings;
}

export interface SessionStore extends Store<SessionSnapshot> {
  readonly sessionId: string;
  /** Resolves when the message is stored or queued; the reply comes by the store. */
  readonly send: (content: Content, options?: SendOptions) => Promise<RunInfo>;
  /** Drops that message of the user's and all behind it, and sends the new one. */
  readonly edit: (id: string, content: Content, options?: SendOptions) => Promise<RunInfo>;
  /** Of a reply, or of the user's message that it answers; left out: the last reply. */
  readonly regenerate: (id?: string, options?: Omit<SendOptions, "newSession">) => Promise<RunInfo>;
  /** Once more what failed: a message that could not be sent, or a reply. */
  readonly retry: (id: string) => Promise<RunInfo>;
  /** Forgets a message that could not be sent. */
  readonly discard: (id: string) => void;
  /** Stops the reply that streams, or a run that waits. The text so far stays. */
  readonly cancel: (runId?: string) => Promise<void>;
  /**
   * Decides on calls of tools that the run waits with: all of the decisions are taken, or none. Without `runId` of the run
   * whose reply streams.
   */
  readonly respond: (decisions: readonly Decision[], runId?: string) => Promise<RunInfo>;
  /** The page's own tools, from now on: `send`, `edit` and `regenerate` give them, and their functions carry out the calls in this tab. */
  readonly setTools: (tools: readonly PageTool[]) => void;
  /**
   * Carries out a call of a page's tool that no tab carries out by itself: begins it, so that nobody else does, and brings what
   * the tool's function or `work` gives as its result. With `work` also one that was begun before, and whose result is lost.
   */
  readonly runTool: (callId: string, work?: ToolFunction) => Promise<RunInfo>;
  /** Resolves when the run has ended. */
  readonly settled: (runId: string) => Promise<RunInfo>;
  readonly loadOlder: () => Promise<void>;
  readonly markRead: () => Promise<void>;
  readonly update: (changes: SessionSettings & { readonly archived?: boolean }) => Promise<void>;
  readonly generateTitle: () => Promise<void>;
  readonly clear: () => Promise<void>;
  readonly delete: () => Promise<void>;
  /** Copies the history up to that message, or whole, and gives the copy's session id. */
  readonly fork: (through?: string) => Promise<string>;
}

/** What `load` reads on a server, as JSON: a page that begins with it asks only for what came since. */
export interface SessionSeed {
  readonly sessionId: string;
  readonly session: (OpenSessionRow & { readonly cursor: string; readonly messages: PageRow }) | null;
}

export const pageSize = 50;
/** So many ended runs are remembered: the answer to a mutation may come after its run's end. */
const endedRuns = 50;

export function createSession(
  transport: Transport,
  sessionId: string,
  uuid: () => string,
  seed?: SessionSeed,
): SessionStore & Pick<OwnStore<SessionSnapshot>, "inUse" | "close"> {
  let chat: Chat = emptyChat;
  if (seed?.session) {
    const { session } = seed;
    chat = applyEvent(chat, { __typename: "StreamOpened", cursor: session.cursor, session });
  }
  let connection: Connection = "idle";
  let error: Error | null = null;
  let older: Promise<void> | null = null;
  let stop: (() => void) | null = null;
  const waiting = new Map<string, ((run: RunInfo) => void)[]>();
  const ended = new Map<string, RunInfo>();
  /** Runs of this store's own, of whose end an event is going to tell if the stream is not cut. */
  const begun = new Set<string>();
  /** Runs that have ended while nobody listened, but whose reply is still to come. */
  const ending = new Map<string, RunInfo>();
  const tools = new PageTools({
    run: () => chat.active,
    decide,
    settled: (runId) => actions.settled(runId),
    changed: () => change(chat),
  });
  const { set, ...store } = createStore(snapshot(), open, close);

  function snapshot(): SessionSnapshot {
    const { active, queued, session, hasOlder } = chat;
    return {
      ...{ sessionId, connection, session, hasOlder, error },
      messages: messagesOf(chat),
      run: active === null || hasEnded(active) ? null : runOf(active),
      queued: queued.map(runOf),
      acting: tools.acting,
      unread: unreadOf(chat),
      loadingOlder: older !== null,
    };
  }
  function change(next: Chat): void {
    chat = next;
    tools.look();
    set(snapshot());
  }

  function open(): void {
    if (stop !== null) return;
    connection = "connecting";
    error = null;
    stop = transport.follow<{ readonly sessionEvents: SessionEvent }>(
      documents.sessionEvents,
      () => ({ sessionId, after: chat.cursor, fresh: chat.cursor === null, last: pageSize }),
      {
        next: ({ sessionEvents }) => receive(sessionEvents),
        lost() {
          connection = "offline";
          change(chat);
        },
        end(why) {
          stop = null;
          if (connection !== "removed") {
            connection = "closed";
            error = why;
          }
          change(chat);
        },
      },
    );
    change(chat);
  }
  function close(): void {
    stop?.();
    stop = null;
    if (connection !== "removed") connection = "idle";
    change(chat);
  }

  function receive(event: SessionEvent): void {
    const next = applyEvent(chat, event);
    // What a later gateway tells besides, or text that came before, changes nothing.
    if (next === chat) return;
    // Behind StreamWaiting all follows as events. At any other opening runs may have ended while nobody listened.
    const isBehind = event.__typename === "StreamOpened" && connection !== "new";
    if (event.__typename === "StreamWaiting") connection = "new";
    if (event.__typename === "StreamOpened") connection = "live";
    if (event.__typename === "SessionRemoved") connection = "removed";
    change(next);
    if (event.__typename === "RunChanged" && hasEnded(event.run)) settle(runOf(event.run));
    if (isBehind) {
      begun.clear();
      for (const id of waiting.keys()) askFor(id);
    }
    settleEnding();
    if (event.__typename === "SessionRemoved") {
      for (const id of waiting.keys()) settle(lostRun(id));
    }
  }
  /** Of a run that has ended while nobody listened no event tells any more. */
  function askFor(id: string): void {
    if ([chat.active, ...chat.queued].some((run) => run?.id === id && !hasEnded(run))) return;
    transport.request<{ readonly node: RunRow | null }>(documents.runById, { id }).then(
      ({ node }) => {
        if (node === null || hasEnded(node)) {
          ending.set(id, node === null ? lostRun(id) : runOf(node));
        }
        settleEnding();
      },
      // It is asked for again when the stream opens again.
      () => undefined,
    );
  }
  function settleEnding(): void {
    for (const run of [...ending.values()]) if (chat.active?.id !== run.id) settle(run);
  }
  function settle(run: RunInfo): void {
    ending.delete(run.id);
    begun.delete(run.id);
    ended.set(run.id, run);
    const [oldest] = ended.keys();
    if (ended.size > endedRuns && oldest !== undefined) ended.delete(oldest);
    for (const done of waiting.get(run.id) ?? []) done(run);
    waiting.delete(run.id);
  }

  function begin(run: RunRow, given?: readonly PageTool[]): RunInfo {
    // Of one that has ended by now events have told, or it was sent long ago.
    if (store.inUse() && !hasEnded(run) && !ended.has(run.id)) begun.add(run.id);
    tools.sent(run, given);
    return runOf(run);
  }

  /** Also what could not be sent before, once more. */
  async function post(outgoing: Outgoing): Promise<RunInfo> {
    const { message, input } = outgoing;
    const others = chat.outgoing.filter((one) => one.message.id !== message.id);
    if (connection === "removed" && store.inUse()) open();
    change({ ...chat, failed: null, outgoing: [...others, outgoing] });
    try {
      const { sendMessage } = await transport.request<{ readonly sendMessage: { readonly run: RunRow } }>(
        documents.send,
        { input },
      );
      change(answered(chat, message.id, sendMessage.run));
      return begin(sendMessage.run, input.tools);
    } catch (why) {
      const code = why instanceof ParleyError ? why.code : "UNKNOWN";
      change(notSent(chat, message.id, { code, message: why instanceof Error ? why.message : "", retryable: true }));
      throw why;
    }
  }
  function sending(content: Content, options: SendOptions, replaced?: StoredMessage): Promise<RunInfo> {
    const { messageId = uuid(), ...rest } = options;
    const blocks = contentOf(content);
    const message = sentMessage(sessionId, messageId, blocks);
    const replaceFrom = replaced?.cursor;
    const input = { sessionId, messageId, content: blocks.map(inputOf), replaceFrom, tools: tools.current, ...rest };
    return post({ message, input, replaces: replaced?.position ?? null, runId: null });
  }

  const storedOf = (id: string) => chat.stored.find((message) => message.id === id);
  const gone = () => Promise.reject(new ParleyError("NOT_FOUND", "That message is not in the chat any more."));
  /** For what only sets a state, and answers nothing that is needed. */
  const mutate = async (document: string, input: object): Promise<void> => {
    await transport.request(document, { input });
  };

  async function decide(decisions: readonly Decision[], runId?: string, tries?: number): Promise<RunInfo> {
    if (runId === undefined) throw new ParleyError("NOT_WAITING", "There is no run that waits.");
    const input = { runId, decisions, idempotencyKey: uuid() };
    const { respondToRun } = await transport.request<{ readonly respondToRun: { readonly run: RunRow } }>(
      documents.respond,
      { input },
      tries,
    );
    return runOf(respondToRun.run);
  }

  let marking: Promise<void> | null = null;
  let marksAgain = false;
  async function markStored(): Promise<void> {
    const through = chat.stored.at(-1)?.cursor;
    if (unreadOf(chat) > 0 && through !== undefined) await mutate(documents.markRead, { sessionId, through });
  }

  const actions: Omit<SessionStore, keyof Store<SessionSnapshot>> = {
    sessionId,
    // What waits for an approval would hold it up until somebody decides.
    send: (content, options = {}) =>
      sending(content, { ...(chat.active?.status === "WAITING" ? { whenBusy: "INTERRUPT" } : {}), ...options }),
    async edit(id, content, options = {}) {
      const message = storedOf(id);
      if (message !== undefined) return sending(content, { whenBusy: "INTERRUPT", ...options }, message);
      // One that waits for its turn, or that could not be sent: nothing of it is in the history.
      const run = chat.queued.find(({ userMessageId }) => userMessageId === id);
      if (run !== undefined) await actions.cancel(run.id);
      else if (chat.outgoing.some((one) => one.message.id === id)) actions.discard(id);
      else return gone();
      return sending(content, options);
    },
    async regenerate(id, { messageId = uuid(), ...options } = {}) {
      const at = chat.stored.findIndex((message) => message.id === id);
      const reply = chat.stored[at]?.role === "USER" ? chat.stored[at + 1] : chat.stored[at];
      const input = {
        ...{ sessionId, replaceFrom: reply?.cursor, whenBusy: "INTERRUPT", idempotencyKey: messageId },
        ...{ tools: tools.current, ...options },
      };
      const { regenerateReply } = await transport.request<{ readonly regenerateReply: { readonly run: RunRow } }>(
        documents.regenerate,
        { input },
      );
      return begin(regenerateReply.run, input.tools);
    },
    retry(id) {
      const outgoing = chat.outgoing.find(({ message }) => message.id === id && message.status === "failed");
      if (outgoing !== undefined) {
        return post({ ...outgoing, message: { ...outgoing.message, status: "sending", error: null } });
      }
      const isFailed = chat.failed !== null && replyMessages(chat.failed).some((message) => message.id === id);
      return isFailed ? actions.regenerate() : gone();
    },
    discard(id) {
      change({ ...chat, outgoing: chat.outgoing.filter(({ message }) => message.id !== id) });
    },
    async cancel(runId = chat.active?.id) {
      if (runId !== undefined) await mutate(documents.cancel, { runId });
    },
    respond: (decisions, runId = chat.active?.id) => decide(decisions, runId),
    ...tools.actions,
    settled(runId) {
      const run = ended.get(runId);
      if (run !== undefined) return Promise.resolve(run);
      const leave = store.subscribe(() => undefined);
      const end = new Promise<RunInfo>((done) => waiting.set(runId, [...(waiting.get(runId) ?? []), done]));
      if (connection === "live" && !begun.has(runId)) askFor(runId);
      return end.finally(leave);
    },
    loadOlder() {
      const [first] = chat.stored;
      if (first === undefined || !chat.hasOlder) return Promise.resolve();
      older ??= readOlder(first).finally(() => {
        older = null;
        change(chat);
      });
      change(chat);
      return older;
    },
    markRead() {
      // One request at a time: of many messages that come in the meantime the newest is enough.
      marksAgain = marking !== null;
      marking ??= markStored().finally(() => {
        marking = null;
        return marksAgain ? actions.markRead() : undefined;
      });
      return marking;
    },
    async update(changes) {
      const { updateSession } = await transport.request<{ readonly updateSession: { readonly session: SessionRow } }>(
        documents.update,
        { input: { sessionId, ...changes } },
      );
      change({ ...chat, session: infoOf(updateSession.session) });
    },
    async generateTitle() {
      const { generateTitle } = await transport.request<{
        readonly generateTitle: { readonly error: { readonly code: string; readonly message: string } | null };
      }>(documents.generateTitle, { input: { sessionId } });
      if (generateTitle.error !== null) throw new ParleyError(generateTitle.error.code, generateTitle.error.message);
    },
    clear: () => mutate(documents.clear, { sessionId }),
    async delete() {
      await mutate(documents.remove, { sessionId }).catch((why: unknown) => {
        // It was deleted by the first of two tries, or by somebody else.
        if (!(why instanceof ParleyError && why.code === "NOT_FOUND")) throw why;
      });
    },
    async fork(through) {
      const message = through === undefined ? undefined : storedOf(through);
      if (through !== undefined && message === undefined) return gone();
      const { forkSession } = await transport.request<{
        readonly forkSession: { readonly session: { readonly sessionId: string } };
      }>(documents.fork, { input: { sessionId, idempotencyKey: uuid(), through: message?.cursor } });
      return forkSession.session.sessionId;
    },
  };

  async function readOlder(first: StoredMessage): Promise<void> {
    const { session } = await transport.request<{ readonly session: { readonly messages: PageRow } | null }>(
      documents.older,
      { sessionId, before: first.cursor, last: pageSize },
    );
    // A reset may have come in between: then the page does not join on to what is there any more.
    if (session === null || !isStored(chat.stored.slice(0, 1), first.id)) return;
    const { nodes, pageInfo } = session.messages;
    change({ ...chat, stored: place(chat.stored, nodes.map(storedMessage)), hasOlder: pageInfo.hasPreviousPage });
  }

  return { ...actions, ...store };
}
