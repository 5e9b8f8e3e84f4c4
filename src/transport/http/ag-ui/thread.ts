import { mayUse } from "../../../conversation/conversations/access.ts";
import type { Caller } from "../../../conversation/conversations/api.ts";
import type { Conversations } from "../../../conversation/conversations/conversations.ts";
import type { Decision } from "../../../conversation/conversations/responding.ts";
import { encodeCursor } from "../../../conversation/message/cursor.ts";
import { isMessageId, localMessageId } from "../../../conversation/message/ids.ts";
import type { ContentBlock, Row } from "../../../conversation/message/message.ts";
import { ReadMessage } from "../../../conversation/message/read-message.ts";
import { argsOf, isUndecided, partsOf } from "../../../conversation/part-log.ts";
import type { RunPart, ToolPart } from "../../../conversation/part-log.ts";
import { notFound, ParleyError } from "../../../conversation/errors.ts";
import type { Run } from "../../../conversation/run.ts";
import type { Session, Viewer } from "../../../conversation/session.ts";
import { messageGlobalId } from "../../../graphql/reading/global-ids.ts";
import type { RunInput } from "./input.ts";

/** So many of the newest messages a thread shows, and looks for the client's among. */
const shownMessages = 200;

export const newestMessages = {
  pages: [{ first: null, after: null, last: shownMessages, before: null }],
} as const;

/** A thread's id is its session's, where the viewer may choose that. */
export function sessionIdOf({ subject, ...viewer }: Viewer, threadId: string): string {
  return mayUse({ subject, ...viewer }, threadId) ? threadId : `${subject}:${threadId}`;
}

interface StoredMessage {
  readonly id: string;
  readonly row: Row;
  readonly message: ReadMessage;
}

function messagesOf({ sessionId, historyKey, pages: [page] }: Session): readonly StoredMessage[] {
  if (page === undefined || page instanceof Error) return [];
  return page.rows.map((row) => {
    const message = new ReadMessage(row.raw);
    const { messageId } = message;
    // Under the id that AG-UI's client gave it.
    const isOwn = message.role === "USER" && messageId !== null;
    return {
      id: isOwn ? messageId : messageGlobalId(sessionId, localMessageId(historyKey, row, message)),
      row,
      message,
    };
  });
}

/**
 * Takes the client's newest message. One that is not in the history is sent: the history may have gone on elsewhere, so nothing is dropped for
 * it. One that is there is answered again, with the content that it has now, and what follows it is dropped; the run that answers it already is
 * joined. A runId that comes again gives its first run. `takesTools`: whether the page's tools go with it.
 */
export async function takeQuestion(
  conversations: Conversations,
  caller: Caller,
  sessionId: string,
  { runId, question, context, tools }: RunInput & { readonly question: NonNullable<RunInput["question"]> },
): Promise<{ readonly run: Run; readonly takesTools: boolean }> {
  const { viewer } = caller;
  const session = await conversations.readSession(viewer, sessionId, newestMessages);
  const known = session && messagesOf(session).findLast(({ id }) => id === question.id);
  const active = session?.activeRun ?? null;
  const isBeingAnswered = known && active?.userRow?.position === known.row.position;
  const takesTools = conversations.takesPageTools(session);
  if (isBeingAnswered && sameContent(known.message.content, question.content)) return { run: active, takesTools };
  const messageId = known ? known.message.messageId : question.id;
  const replaceFrom =
    session && known
      ? encodeCursor(session.historyKey, {
          generation: session.generation,
          position: known.row.position,
          mark: known.row.mark,
        })
      : null;
  const { run } = await conversations.sendMessage(
    caller,
    {
      ...{ sessionId, newSession: null, content: question.content, idempotencyKey: runId, replaceFrom, model: null },
      messageId: messageId !== null && isMessageId(messageId) ? messageId : null,
      // What waits for an approval would hold it up until somebody decides.
      whenBusy: known || active?.status === "WAITING" ? "INTERRUPT" : "QUEUE",
      context,
      tools: takesTools ? tools : [],
    },
    null,
    false,
  );
  return { run, takesTools };
}

/** Takes the answers to interrupts, by a key of the client's run: one that comes again changes nothing. Gives the run that has waited for them. */
export async function takeAnswers(
  conversations: Conversations,
  caller: Caller,
  sessionId: string,
  { runId, resume }: RunInput,
): Promise<string> {
  const session = await conversations.readSession(caller.viewer, sessionId, { pages: [] });
  const run = session?.activeRun ?? session?.lastRun;
  if (run === null || run === undefined) throw notFound("run");
  await conversations.respondToRun(caller, sessionId, run.runId, resume, runId, { pages: [] });
  return run.runId;
}

/**
 * Takes what came of calls of the page's tools: each is begun, unless it was before, and has its result, by keys of the client's run. Gives
 * the run that has waited for them; null: all of it lies in the history already, as the answers of the agent's own tools do.
 */
export async function takeResults(
  conversations: Conversations,
  caller: Caller,
  sessionId: string,
  { runId, results }: RunInput,
): Promise<string | null> {
  const session = await conversations.readSession(caller.viewer, sessionId, newestMessages);
  const run = session?.activeRun ?? session?.lastRun;
  if (session === null || run === null || run === undefined) throw notFound("run");
  const calls = partsOf(run.log, run.text, run.replyLocalId).filter(isCall).filter(isPages);
  const ours = results.filter(({ callId }) => calls.some((call) => call.callId === callId));
  if (ours.length === 0) {
    const answered = messagesOf(session).map(({ message }) => message.toolCallId);
    if (results.every(({ callId }) => answered.includes(callId))) return null;
    throw new ParleyError("NOT_WAITING", "No run waits for these results of the page's tools.");
  }
  // What was taken before, of this request or another, stays as it is.
  const left = calls.filter(
    ({ callId, decided }) => decided !== "RESULT" && ours.some((result) => result.callId === callId),
  );
  const unbegun = left.filter(({ allowed = [] }) => allowed.includes("BEGIN"));
  const respond = (decisions: readonly Decision[], key: string) =>
    conversations.respondToRun(caller, sessionId, run.runId, decisions, key, { pages: [] });
  if (unbegun.length > 0) {
    const begun = unbegun.map(({ callId }): Decision => ({ kind: "BEGIN", callId }));
    await respond(begun, `${runId}:begin`);
  }
  const told = ours.filter(({ callId }) => left.some((call) => call.callId === callId));
  if (told.length > 0) {
    const brought = told.map(({ callId, text, failed }): Decision => ({
      ...{ kind: "RESULT", callId, content: [{ kind: "text", text }], failed },
    }));
    await respond(brought, runId);
  }
  return run.runId;
}

function isCall(part: RunPart): part is ToolPart {
  return part.kind === "tool";
}

/** Whether a page carries the call out. */
function isPages({ status, decided }: ToolPart): boolean {
  return status === "NEEDS_RESULT" || pagesOwn.has(decided);
}

const pagesOwn: ReadonlySet<unknown> = new Set(["BEGIN", "RESULT"]);

/** Whether the run waits with calls that a page is to carry out now. */
export function waitsForPage({ status, log, text, replyLocalId }: Run): boolean {
  return status === "WAITING" && partsOf(log, text, replyLocalId).filter(isUndecided).some(isPages);
}

/** The approvals that a run waits for. */
export function interruptsOf({ status, log, text, replyLocalId, waitsUntil }: Run): readonly object[] {
  if (status !== "WAITING") return [];
  return (
    partsOf(log, text, replyLocalId)
      .filter(isUndecided)
      // The result of a page's tool comes as a message of it.
      .filter((part) => !isPages(part))
      .map(({ callId, name, argsText, args, allowed = [] }) => ({
        ...{ id: callId, reason: "tool_call", toolCallId: callId, message: `The tool "${name}" is to be called.` },
        responseSchema,
        ...(waitsUntil === null ? {} : { expiresAt: new Date(waitsUntil).toISOString() }),
        metadata: { name, args: args ?? argsOf(argsText), allowed },
      }))
  );
}

const responseSchema = {
  type: "object",
  properties: { approved: { type: "boolean" }, editedArgs: { type: "object" }, reason: { type: "string" } },
  required: ["approved"],
} as const;

function sameContent(one: readonly ContentBlock[], other: readonly ContentBlock[]): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** The newest messages, as MESSAGES_SNAPSHOT has them. */
export function snapshotOf(session: Session): readonly object[] {
  return messagesOf(session).flatMap(({ id, message }): readonly object[] => {
    const { role, text, name, content, toolCalls, toolCallId, toolFailed } = message;
    const named = { id, ...(name === null ? {} : { name }) };
    switch (role) {
      case "USER":
        return [
          {
            ...named,
            role: "user",
            content: content.some(({ kind }) => kind === "image") ? shownParts(content) : text,
          },
        ];
      case "ASSISTANT":
        return [
          {
            ...named,
            role: "assistant",
            content: text,
            ...(toolCalls.length === 0 ? {} : { toolCalls: toolCalls.map(callOf) }),
          },
        ];
      case "SYSTEM":
        return [{ ...named, role: "system", content: text }];
      case "TOOL":
        return [
          {
            id,
            role: "tool",
            content: text,
            toolCallId: toolCallId ?? "",
            ...(toolFailed === true ? { error: text } : {}),
          },
        ];
      default:
        return [];
    }
  });
}

function callOf({ callId, name, args }: ReadMessage["toolCalls"][number]): object {
  return { id: callId ?? "", type: "function", function: { name, arguments: JSON.stringify(args) } };
}

/** The global ids of what the history holds of runs. */
export function storedIdsOf(session: Session): readonly string[] {
  return messagesOf(session).map(({ id }) => id);
}

/** Other parts than texts and images are not shown: the list is for reading, and what is stored stays as it is. */
function shownParts(content: readonly ContentBlock[]): readonly object[] {
  return content.flatMap((block): readonly object[] => {
    if (block.kind === "text") return [{ type: "text", text: block.text }];
    return block.kind === "image" ? [{ type: "image", source: { type: "url", value: block.url } }] : [];
  });
}
