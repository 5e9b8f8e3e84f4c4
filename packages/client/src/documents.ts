import type { Citation, Role, ToolStatus } from "./message.ts";
import type { RunInfo, RunError } from "./run.ts";

// The operations that the client sends, and what each brings. Short names and no line breaks: they travel with each request.

const block =
  "__typename ...on TextBlock{text citations{url title quote start end}}...on ImageBlock{url detail}...on ReasoningBlock{text}...on FileBlock{url mimeType fileName}...on AudioBlock{url mimeType}...on ServerToolBlock{callId name args result}...on OtherBlock{data}";
const part =
  "__typename ...on TextPart{messageId start text}...on ReasoningPart{messageId text}...on ToolPart{messageId callId name args text:argsText revision status allowed result{...on TextBlock{text}}}...on DataPart{messageId callId name data}";
const message = `fragment M on Message{id messageId position cursor role name createdAt finishReason toolCallId toolFailed toolCalls{callId name args}content{${block}}}`;
const run = `fragment R on Run{id status replyId model parts{${part}}approvals{callId name args status allowed}waitsUntil queuedAt input{${block}}userMessageId userMessage{position}error{code message retryable}}`;
const session =
  "fragment S on Session{id sessionId title model archived messageCount readCount updatedAt metadata activeRun{id status}}";
const page = "nodes{...M}pageInfo{hasPreviousPage}";
const runs = "queuedRuns{...R}activeRun{...R}lastRun{...R}";

/** One stream brings the newest page and all that follows: StreamOpened has both, so nothing is missed between them. */
export const sessionEvents = `subscription ParleySessionEvents($sessionId:String!,$after:String,$fresh:Boolean!,$last:Int!){sessionEvents(sessionId:$sessionId,after:$after){__typename ...on StreamWaiting{cursor}...on StreamOpened{cursor session{...S ${runs} messages(last:$last)@include(if:$fresh){${page}}}}...on MessageAdded{message{...M}}...on ReplyProgress{runId replyId index offset text}...on PartAdded{runId index part{${part}}}...on PartProgress{runId index offset text}...on PartChanged{runId index part{${part}}}...on RunChanged{run{...R}}...on SessionUpdated{session{...S}}...on HistoryReset{kept cursor session{...S ${runs} messages(last:$last){${page}}}}}}${message}${run}${session}`;
export const load = `query ParleyLoad($sessionId:String!,$last:Int!){session(sessionId:$sessionId){cursor ...S ${runs} messages(last:$last){${page}}}}${message}${run}${session}`;
export const older = `query ParleyOlder($sessionId:String!,$before:String!,$last:Int!){session(sessionId:$sessionId){messages(last:$last,before:$before){${page}}}}${message}`;
export const runById = `query ParleyRun($id:ID!){node(id:$id){...R}}${run}`;
export const send = `mutation ParleySend($input:SendMessageInput!){sendMessage(input:$input){run{...R}}}${run}`;
export const regenerate = `mutation ParleyRegenerate($input:RegenerateReplyInput!){regenerateReply(input:$input){run{...R}}}${run}`;
export const cancel = "mutation ParleyCancel($input:CancelRunInput!){cancelRun(input:$input){run{id}}}";
export const respond = `mutation ParleyRespond($input:RespondToRunInput!){respondToRun(input:$input){run{...R}}}${run}`;
export const markRead = "mutation ParleyMarkRead($input:MarkReadInput!){markRead(input:$input){session{id}}}";
export const update = `mutation ParleyUpdate($input:UpdateSessionInput!){updateSession(input:$input){session{...S}}}${session}`;
export const create = `mutation ParleyCreate($input:CreateSessionInput!){createSession(input:$input){session{...S}}}${session}`;
export const clear = "mutation ParleyClear($input:ClearHistoryInput!){clearHistory(input:$input){session{id}}}";
export const remove = "mutation ParleyDelete($input:DeleteSessionInput!){deleteSession(input:$input){deletedId}}";
export const generateTitle =
  "mutation ParleyTitle($input:GenerateTitleInput!){generateTitle(input:$input){session{title}error{code message retryable}}}";
export const fork = "mutation ParleyFork($input:ForkSessionInput!){forkSession(input:$input){session{sessionId}}}";
export const sessions = `query ParleySessions($first:Int!,$after:String,$filter:SessionFilter){sessions(first:$first,after:$after,filter:$filter){nodes{...S}pageInfo{hasNextPage endCursor}}}${session}`;
export const sessionChanged = `subscription ParleySessionChanged{sessionChanged{__typename ...on SessionAdded{session{...S}}...on SessionUpdated{session{...S}}...on SessionRemoved{removedId}}}${session}`;
export const models = "query ParleyModels{models{name isDefault}}";
export const viewer = "query ParleyViewer{viewer{subject scopes sessions}}";

export interface BlockRow {
  /** A gateway of a later version may have more of them. */
  readonly __typename: string;
  readonly text?: string;
  readonly citations?: readonly Citation[];
  readonly url?: string;
  readonly detail?: string | null;
  readonly mimeType?: string | null;
  readonly fileName?: string | null;
  readonly callId?: string;
  readonly name?: string;
  readonly args?: unknown;
  readonly result?: unknown;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** A part of what a run makes, at its index in `parts`. */
export interface PartRow {
  /** A gateway of a later version may have more of them. */
  readonly __typename: string;
  readonly messageId?: string;
  /** Of text: where in its message's text it begins. */
  readonly start?: number;
  /** Of text and reasoning; of a call of a tool its arguments, as the model writes them. */
  readonly text?: string;
  /** The rest is of a call of a tool. */
  readonly callId?: string;
  readonly name?: string;
  /** null until they are whole. */
  readonly args?: unknown;
  readonly revision?: number;
  readonly status?: ToolStatus;
  readonly allowed?: readonly string[];
  readonly result?: readonly { readonly text?: string }[];
  /** Of what a tool tells while it works, which has the id of its call and a name, too. */
  readonly data?: unknown;
}

export interface MessageRow {
  readonly id: string;
  readonly messageId: string | null;
  readonly position: number;
  readonly cursor: string;
  readonly role: Role;
  readonly name: string | null;
  readonly createdAt: string | null;
  readonly finishReason: "STOP" | "CANCELLED" | "LENGTH" | "CONTENT_FILTER" | "TOOL_CALLS" | "OTHER" | null;
  readonly toolCallId: string | null;
  readonly toolFailed: boolean | null;
  readonly toolCalls: readonly { readonly callId: string | null; readonly name: string; readonly args: unknown }[];
  readonly content: readonly BlockRow[];
}

export interface RunRow extends RunInfo {
  readonly parts: readonly PartRow[];
  readonly queuedAt: string;
  /** Empty where a reply is made anew. */
  readonly input: readonly BlockRow[];
  readonly userMessageId: string | null;
  readonly userMessage: { readonly position: number } | null;
  readonly error: RunError | null;
}

export interface SessionRow {
  readonly id: string;
  readonly sessionId: string;
  readonly title: string | null;
  readonly model: string;
  readonly archived: boolean;
  readonly messageCount: number;
  readonly readCount: number;
  readonly updatedAt: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly activeRun: Pick<RunInfo, "id" | "status"> | null;
}

export interface PageRow {
  readonly nodes: readonly MessageRow[];
  readonly pageInfo: { readonly hasPreviousPage: boolean };
}

export interface OpenSessionRow extends SessionRow {
  readonly queuedRuns: readonly RunRow[];
  readonly activeRun: RunRow | null;
  readonly lastRun: RunRow | null;
  readonly messages?: PageRow;
}

export type SessionEvent =
  | { readonly __typename: "StreamWaiting"; readonly cursor: string }
  | { readonly __typename: "StreamOpened"; readonly cursor: string; readonly session: OpenSessionRow }
  | { readonly __typename: "MessageAdded"; readonly message: MessageRow }
  | {
      readonly __typename: "ReplyProgress";
      readonly runId: string;
      readonly replyId: string;
      readonly index: number;
      readonly offset: number;
      readonly text: string;
    }
  | { readonly __typename: "PartAdded"; readonly runId: string; readonly index: number; readonly part: PartRow }
  | {
      readonly __typename: "PartProgress";
      readonly runId: string;
      readonly index: number;
      readonly offset: number;
      readonly text: string;
    }
  | { readonly __typename: "PartChanged"; readonly runId: string; readonly index: number; readonly part: PartRow }
  | { readonly __typename: "RunChanged"; readonly run: RunRow }
  | { readonly __typename: "SessionUpdated"; readonly session: SessionRow }
  | {
      readonly __typename: "HistoryReset";
      readonly kept: number;
      readonly cursor: string;
      readonly session: OpenSessionRow & { readonly messages: PageRow };
    }
  | { readonly __typename: "SessionRemoved" };

export type SessionChange =
  | { readonly __typename: "SessionListOpened" }
  | { readonly __typename: "SessionAdded" | "SessionUpdated"; readonly session: SessionRow }
  | { readonly __typename: "SessionRemoved"; readonly removedId: string };
