import type { OpenSessionRow, PageRow, PartRow, RunRow, SessionEvent } from "./documents.ts";
import { inputMessage, replyMessages, storedMessage, withAnswers } from "./message.ts";
import type { ChatMessage, StoredMessage } from "./message.ts";
import type { PageTool } from "./page-tools.ts";
import { hasEnded } from "./run.ts";
import type { Approval, RunError, RunInfo } from "./run.ts";
import { infoOf } from "./session-info.ts";
import type { SessionInfo } from "./session-info.ts";

// What is known of one session, and how each event changes it. All of it is pure: an event that comes twice, after a
// reconnect for example, changes nothing the second time.

/** A message of this client's that no event has told of yet. */
export interface Outgoing {
  readonly message: ChatMessage;
  /** As sendMessage takes it: sent again, it is the same message. */
  readonly input: { readonly tools?: readonly PageTool[] | undefined };
  /** An edit: what lies at this position and behind it is about to go. */
  readonly replaces: number | null;
  /** Once the gateway has answered. */
  readonly runId: string | null;
}

export interface Chat {
  /** The stream goes on behind it. null: it begins with the newest page. */
  readonly cursor: string | null;
  readonly session: SessionInfo | null;
  /** By position, without gaps, up to the newest. */
  readonly stored: readonly StoredMessage[];
  readonly hasOlder: boolean;
  /** The run whose reply streams; or one that has ended while nobody listened, until its message has come. */
  readonly active: RunRow | null;
  /** Where a reply is made anew: the positions of what it replaces once it is complete. */
  readonly replaced: { readonly from: number; readonly until: number } | null;
  /** The newest run, if it failed. */
  readonly failed: RunRow | null;
  /** Next first. */
  readonly queued: readonly RunRow[];
  readonly outgoing: readonly Outgoing[];
}

export const emptyChat: Chat = {
  ...{ cursor: null, session: null, stored: [], hasOlder: false, active: null, replaced: null, failed: null },
  ...{ queued: [], outgoing: [] },
};

export function applyEvent(chat: Chat, event: SessionEvent): Chat {
  switch (event.__typename) {
    case "StreamWaiting":
      return { ...chat, cursor: event.cursor };
    case "StreamOpened":
      return opened(chat, event.cursor, event.session);
    case "MessageAdded": {
      const message = storedMessage(event.message);
      // One that calls tools is not its run's last.
      const goesOn = message.toolCalls.length > 0 && chat.active !== null && !hasEnded(chat.active);
      const active = chat.active?.replyId === message.id && !goesOn ? null : chat.active;
      const outgoing = chat.outgoing.filter((one) => one.message.id !== message.id);
      return { ...chat, cursor: message.cursor, stored: place(chat.stored, [message]), active, outgoing };
    }
    case "ReplyProgress": {
      const { runId, replyId, index, offset, text } = event;
      const known = chat.active?.id === runId ? chat.active : unknownRun(runId, replyId);
      // Behind a message that is stored an agent goes on with the next one.
      if (chat.active === null && chat.stored.some(({ id }) => id === replyId)) return chat;
      const { start = offset, text: before = "" } = known.parts[index] ?? {};
      // Text is only ever added: what ends within what is there came before.
      if (offset + text.length <= start + before.length) return chat;
      const part = { __typename: "TextPart", messageId: replyId, start, text: before.slice(0, offset - start) + text };
      return { ...chat, active: { ...known, replyId, parts: withPart(known.parts, index, part) } };
    }
    case "PartAdded":
    case "PartProgress":
    case "PartChanged":
      return partChanged(chat, event);
    case "RunChanged":
      return runChanged(chat, event.run);
    case "SessionUpdated":
      return { ...chat, session: infoOf(event.session) };
    case "HistoryReset":
      return reset(chat, event);
    case "SessionRemoved":
      return { ...emptyChat, outgoing: chat.outgoing.filter(({ runId }) => runId === null) };
    // What a later gateway tells besides.
    default:
      return chat;
  }
}

function opened(chat: Chat, cursor: string, session: OpenSessionRow): Chat {
  const next = { ...withRuns(withPage(chat, session.messages), session), cursor, session: infoOf(session) };
  const { lastRun } = session;
  // Its reply has become a message while nobody listened: it stays on the screen until that message has come.
  const { active } = chat;
  const kept =
    next.active === null && active !== null && active.id === lastRun?.id && lastRun.error === null
      ? { ...active, status: lastRun.status }
      : next.active;
  const known = new Set([...session.queuedRuns, lastRun].map((run) => run?.userMessageId));
  // What somebody has just started is opened empty, and all that is in it follows.
  const isNew = chat.cursor !== null && chat.session === null;
  return {
    ...next,
    active: kept !== null && hasEnded(kept) && isStored(next.stored, kept.replyId) ? null : kept,
    // What was answered, and is neither stored nor going to be: the history was cut there in the meantime.
    outgoing: next.outgoing.filter(({ runId, message }) => isNew || runId === null || known.has(message.id)),
  };
}

function runChanged(chat: Chat, run: RunRow): Chat {
  const queued = chat.queued.filter(({ id }) => id !== run.id);
  // From here on the run tells of it.
  const outgoing = chat.outgoing.filter((one) => one.message.id !== run.userMessageId && one.runId !== run.id);
  if (run.status === "QUEUED") return { ...chat, queued: [...queued, run], outgoing };
  const { session } = chat;
  if (!hasEnded(run)) {
    const readCount = run.input.length === 0 ? 0 : (run.userMessage?.position ?? -1) + 1;
    return {
      ...chat,
      ...{ queued, outgoing, active: run, failed: null, replaced: replacedBy(run, chat.stored) },
      // Who sends has read what was there.
      session: session && {
        ...session,
        ...{ running: true, waiting: run.status === "WAITING", readCount: Math.max(session.readCount, readCount) },
      },
    };
  }
  const wasActive = chat.active?.id === run.id;
  return {
    ...chat,
    ...{ queued, outgoing },
    ...(wasActive ? { active: null, replaced: null } : {}),
    failed: run.error === null ? chat.failed : run,
    session: session && (wasActive || chat.active === null ? { ...session, running: false, waiting: false } : session),
  };
}

/** What is no text: reasoning, calls of tools, and of a later gateway more. */
function partChanged(
  chat: Chat,
  event: Extract<SessionEvent, { readonly __typename: "PartAdded" | "PartProgress" | "PartChanged" }>,
): Chat {
  const { active } = chat;
  if (active?.id !== event.runId) return chat;
  const { index } = event;
  const before = active.parts[index];
  let part = before;
  if (event.__typename === "PartAdded") part ??= event.part;
  else if (event.__typename === "PartChanged") {
    if ((event.part.revision ?? 0) > (before?.revision ?? -1)) ({ part } = event);
  }
  // As with text: what ends within what is there came before.
  else if (before?.text !== undefined && event.offset + event.text.length > before.text.length) {
    part = { ...before, text: before.text.slice(0, event.offset) + event.text };
  }
  if (part === undefined || part === before) return chat;
  const next = { ...active, parts: withPart(active.parts, index, part) };
  return { ...chat, active: active.status === "WAITING" ? { ...next, approvals: approvalsOf(next) } : next };
}

/** What somebody decides on, here or elsewhere, waits no more; and behind the last approval the page's calls do. */
function approvalsOf({ parts, approvals }: RunRow): readonly Approval[] {
  const told = parts.flatMap(({ callId, name = "", args, status = "", allowed = [] }) =>
    callId === undefined || allowed.length === 0
      ? []
      : [{ callId, name, args: args as Approval["args"], status, allowed }],
  );
  // The parts of a run are kept up to a size.
  return [...told, ...approvals.filter(({ callId }) => !parts.some((part) => part.callId === callId))];
}

function withPart(parts: readonly PartRow[], index: number, part: PartRow): readonly PartRow[] {
  // Unlike a spread, slice keeps what is not there yet away from filter and map.
  const next = parts.slice();
  next[index] = part;
  return next;
}

type Reset = Extract<SessionEvent, { readonly __typename: "HistoryReset" }>;

function reset(chat: Chat, { kept, cursor, session }: Reset): Chat {
  const outgoing = chat.outgoing.map((one) => (one.replaces === null ? one : { ...one, replaces: null }));
  const next = { ...chat, cursor, session: infoOf(session), replaced: null, outgoing };
  if (kept === 0) return withRuns(withPage(next, session.messages), session);
  const stored = chat.stored.filter(({ position }) => position < kept);
  const failed = chat.failed !== null && (chat.failed.userMessage?.position ?? kept) < kept ? chat.failed : null;
  if (stored.length > 0) return { ...next, stored, failed };
  // Nothing of what was loaded is left: the end of what is, from the page of this very event.
  const { nodes, pageInfo } = session.messages;
  return { ...withPage(next, { nodes: nodes.filter(({ position }) => position < kept), pageInfo }), failed };
}

function withPage(chat: Chat, page: PageRow | undefined): Chat {
  if (page === undefined) return chat;
  const stored = page.nodes.map(storedMessage);
  const outgoing = chat.outgoing.filter(({ message }) => !isStored(stored, message.id));
  return { ...chat, stored, outgoing, hasOlder: page.pageInfo.hasPreviousPage };
}

function withRuns(chat: Chat, { activeRun, lastRun, queuedRuns }: OpenSessionRow): Chat {
  const failed = lastRun?.error == null ? null : lastRun;
  return { ...chat, active: activeRun, failed, queued: queuedRuns, replaced: replacedBy(activeRun, chat.stored) };
}

/** A run without input makes a reply anew. The old one stands until the new one is complete; both together would confuse. */
function replacedBy(run: RunRow | null, stored: readonly StoredMessage[]): Chat["replaced"] {
  if (run === null || run.input.length > 0 || run.userMessage === null) return null;
  return { from: run.userMessage.position + 1, until: (stored.at(-1)?.position ?? 0) + 1 };
}

/** Of a run that began before this client heard of it. */
function unknownRun(id: string, replyId: string): RunRow {
  return {
    ...{ id, replyId, status: "RUNNING", model: "", parts: [], queuedAt: "", input: [] },
    ...{ userMessageId: null, userMessage: null, error: null, approvals: [], waitsUntil: null },
  };
}

/** Puts messages in their places; one that is there already stays the object that it is. */
export function place(all: readonly StoredMessage[], more: readonly StoredMessage[]): readonly StoredMessage[] {
  const fresh = more.filter(({ id, position }) => !all.some((one) => one.id === id && one.position === position));
  const [first] = fresh;
  if (first === undefined) return all;
  if (first.position > (all.at(-1)?.position ?? -1)) return [...all, ...fresh];
  const taken = new Set(fresh.map(({ position }) => position));
  const others = all.filter(({ position }) => !taken.has(position));
  return [...others, ...fresh].sort((one, other) => one.position - other.position);
}

/** From the end on: what is asked for is new. */
export function isStored(stored: readonly StoredMessage[], id: string | null): boolean {
  return stored.findLast((message) => message.id === id) !== undefined;
}

/** The answer to what was sent. Events may have been faster: then nothing is left to settle. */
export function answered(chat: Chat, messageId: string, run: RunInfo): Chat {
  const outgoing = chat.outgoing.flatMap((one): readonly Outgoing[] => {
    if (one.message.id !== messageId) return [one];
    if (hasEnded(run)) return [];
    if (run.status !== "QUEUED") return [{ ...one, runId: run.id }];
    return [{ ...one, runId: run.id, replaces: null, message: { ...one.message, status: "queued" } }];
  });
  return { ...chat, outgoing };
}

export function notSent(chat: Chat, messageId: string, error: RunError): Chat {
  const outgoing = chat.outgoing.map((one): Outgoing => {
    if (one.message.id !== messageId) return one;
    return { ...one, replaces: null, message: { ...one.message, status: "failed", error } };
  });
  return { ...chat, outgoing };
}

/**
 * What a screen shows, oldest first: stored messages without those that an edit or a reply made anew is about to
 * replace, then the reply that streams or has failed, then what waits.
 */
export function messagesOf(chat: Chat): readonly ChatMessage[] {
  const { active, queued, replaced } = chat;
  const stored = withAnswers(chat.stored, active);
  const cut = Math.min(...chat.outgoing.map(({ replaces }) => replaces ?? Infinity));
  const shown: ChatMessage[] =
    cut === Infinity && replaced === null
      ? [...stored]
      : stored.filter(({ position: at }) => at < cut && !(replaced && at >= replaced.from && at < replaced.until));
  showFailure(shown, stored, chat.failed, cut);
  const newest = stored.at(-1)?.position ?? -1;
  // What an edit replaces goes together with the reply that is being made to it.
  for (const run of active === null || cut < Infinity ? queued : [active, ...queued]) {
    const isNew = (run.userMessage?.position ?? Infinity) > newest && !isStored(stored, run.userMessageId);
    if (isNew && run.input.length > 0) shown.push(inputMessage(run));
    if (run === active) shown.push(...unstored(run, stored));
  }
  for (const { message } of chat.outgoing) shown.push(message);
  return shown;
}

/** A reply that failed stands behind what it answers; one that was to replace another, at the end. */
function showFailure(shown: ChatMessage[], stored: readonly StoredMessage[], failed: RunRow | null, cut: number): void {
  const at = failed?.userMessage?.position;
  if (failed === null || at === undefined || at >= cut || at < (shown[0]?.position ?? 0)) return;
  const behind = failed.input.length === 0 ? -1 : shown.findIndex(({ position }) => (position ?? 0) > at);
  shown.splice(behind === -1 ? shown.length : behind, 0, ...unstored(failed, stored));
}

function unstored(run: RunRow, stored: readonly StoredMessage[]): readonly ChatMessage[] {
  return replyMessages(run).filter(({ id }) => !isStored(stored, id));
}

export function unreadOf({ session, stored }: Chat): number {
  if (session === null) return 0;
  const count = Math.max(session.messageCount, (stored.at(-1)?.position ?? -1) + 1);
  return Math.max(0, count - session.readCount);
}
