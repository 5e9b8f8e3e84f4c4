import type { JsonObject } from "../message/json.ts";
import type { ToolChange } from "../part-log.ts";
import type { TokenUsage } from "../message/message.ts";
import type { RunError } from "../run.ts";
import type { MemorySettings } from "../session.ts";

/**
 * The port to what answers, whatever that is: it takes instructions, history and input, and gives parts while it works and
 * an outcome at the end. Nothing in it throws for a model's failure: that is data.
 */
export interface Replies {
  /** What a caller may choose, the default first. */
  readonly models: readonly ModelChoice[];
  /** Answers the input over the rows. Settles soon after `signal` aborts, with `cancelled`. */
  reply(request: ReplyRequest): Promise<ReplyOutcome>;
  /** Whether a tool of this JSON Schema takes the arguments. */
  takes(schema: unknown, args: JsonObject): Promise<boolean>;
  /** What of a result (content as LangChain stores it) is kept within so many bytes. */
  clipped(content: unknown, mostBytes: number): Promise<unknown>;
  /** A title of a few words for the conversation. */
  title(request: TitleRequest): Promise<{ readonly title: string } | { readonly error: RunError }>;
  /**
   * For SUMMARY_BUFFER, after a turn: null while the rows fit maxTokens; else the summary of `summary` and the first
   * `covered` rows, so that the rest fits.
   */
  summarize(request: SummaryRequest): Promise<{ readonly text: string; readonly covered: number } | null>;
}

export interface ModelChoice {
  /** "provider:name", "offline", the name of a program's own model, or "agent:<name>". */
  readonly name: string;
  readonly isDefault: boolean;
  readonly kind: "MODEL" | "AGENT";
  /** The operator's words for it. */
  readonly description: string | null;
  /** Whether it takes tools of the page's. */
  readonly takesPageTools?: boolean;
  /** What an agent may call. Rejects where a server of them cannot be reached. */
  readonly tools: (signal: AbortSignal) => Promise<readonly ToolChoice[]>;
}

export interface ToolChoice {
  readonly name: string;
  readonly description: string;
  /** The JSON Schema of its arguments. */
  readonly parameters: unknown;
  readonly needsApproval: boolean;
}

/** A tool of the page's: it carries out calls of it, and gives their results by respondToRun. */
export interface PageTool {
  readonly name: string;
  readonly description: string;
  /** A JSON Schema of an object. Only the page holds arguments against it: a pattern of somebody's can keep a process busy for ever. */
  readonly parameters: JsonObject;
}

export interface ReplyRequest {
  /** For the log. */
  readonly runId: string;
  readonly model: string;
  /** The session's own, taken literally (braces are no template), as is what stands in for them. */
  readonly instructions: string | null;
  /** Of a session and an agent that have none. */
  readonly systemPrompt: string | null;
  readonly memory: MemorySettings;
  readonly summary: string | null;
  /** Stored rows below the message to be answered, oldest first, as they lie in Redis (rows that are no message among them). */
  readonly rows: readonly string[];
  /** The stored message to be answered. */
  readonly input: string;
  readonly signal: AbortSignal;
  /** Called for each piece as it leaves the model; never awaited. */
  readonly emit: (piece: Piece) => void;
  readonly steps: Steps;
  /** The page's. */
  readonly pageTools: readonly PageTool[];
  /** Of who has started the run, or let it go on, for tools that act as the user; null: nobody has here. */
  readonly userToken: string | null;
  /** What a run that has waited goes on with; null: it begins. */
  readonly resumed: ResumedReply | null;
}

export interface ResumedReply {
  /** Stored rows of what the run has made so far: its steps, and last the reply whose calls it has waited with. */
  readonly rows: readonly string[];
  /** Of the calls that are answered by a decision, by their ids: the `data` of LangChain's stored tool message. */
  readonly answers: ReadonlyMap<string, JsonObject>;
  /** As wait() was given it. */
  readonly state: JsonObject;
}

/** What has just been made. A `callId` is the only one of its run. */
export type Piece =
  /** Of the text of the message that is being made, or reasoning that led to it. */
  | { readonly kind: "text" | "reasoning"; readonly text: string }
  /** A model begins a message: the first of the run, or the next behind a step. A ConversationChain makes one, and need not say so. */
  | { readonly kind: "message" }
  /** It begins to call a tool. */
  | { readonly kind: "call"; readonly callId: string; readonly name: string }
  | { readonly kind: "arguments"; readonly callId: string; readonly text: string }
  | { readonly kind: "change"; readonly callId: string; readonly change: ToolChange }
  /** What a tool tells while it works, as JSON has it. */
  | { readonly kind: "data"; readonly callId: string; readonly name: string; readonly data: unknown };

/** Where a run puts its steps: replies that call tools, and the answers to them. false: the run is closed, and nothing may begin any more. */
export interface Steps {
  /** Before any of its tools begins. From here on its calls may have taken effect, for all who look at the run. */
  open(step: Step): Promise<boolean>;
  /**
   * The same for a step with calls that somebody has to decide on, or to carry out. None is claimed, and nothing of the run goes on here behind
   * it: who has the last decision carries it on.
   */
  wait(step: WaitingStep): Promise<boolean>;
  /** Where the run has waited: before any of the step's tools begins. */
  claim(): Promise<boolean>;
  /** Of each call of the open step, once. */
  answer(answer: Answer): Promise<boolean>;
}

export interface Step {
  /** The `data` of LangChain's stored ai message, as that of a reply. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly calls: readonly { readonly callId: string; readonly name: string }[];
  readonly usage: TokenUsage | null;
}

export interface WaitingStep extends Step {
  readonly calls: readonly (Step["calls"][number] & {
    /** null: nobody has to decide on it. */
    readonly asks: Asks | null;
  })[];
  /** What answers the rest of the run needs to know, as JSON has it. */
  readonly state: JsonObject;
}

export type Asks = { readonly args: JsonObject } & (
  | {
      readonly for: "approval";
      /** The JSON Schema of the arguments. */
      readonly schema: unknown;
    }
  /** The page carries it out. */
  | {
      readonly for: "result";
      /** The most that is kept of it. */
      readonly resultBytes: number;
    }
);

export interface Answer {
  readonly callId: string;
  /** The `data` of LangChain's stored tool message. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly change: ToolChange;
}

export type ReplyOutcome =
  | {
      readonly kind: "completed";
      /** The `data` of LangChain's stored ai message, without an id of ours: content, tool_calls, usage_metadata, response_metadata, … */
      readonly data: Readonly<Record<string, unknown>>;
      /** All text blocks joined; begins with all the text that was emitted. */
      readonly text: string;
      /** The text is the object that the agent was to give, as JSON. */
      readonly isStructured?: boolean;
      /** Of all that the run asked models for. */
      readonly usage: TokenUsage | null;
      readonly notes?: RunNotes;
    }
  /** Its newest step waits for decisions. */
  | { readonly kind: "waiting" }
  | { readonly kind: "cancelled" }
  | { readonly kind: "failed"; readonly error: RunError; readonly notes?: RunNotes };

/** What was done otherwise than asked, each in a line that can be shown to the user. */
type RunNotes = readonly string[];

export interface TitleRequest {
  readonly model: string;
  /** Stored rows, oldest first. */
  readonly rows: readonly string[];
  readonly signal: AbortSignal;
}

export interface SummaryRequest {
  readonly model: string;
  readonly maxTokens: number;
  readonly summary: string | null;
  readonly rows: readonly string[];
  readonly signal: AbortSignal;
}
