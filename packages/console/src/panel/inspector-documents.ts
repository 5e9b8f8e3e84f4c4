const usage = "{inputTokens outputTokens}";

export const messageDocument = `query ConsoleMessage($id:ID!){node(id:$id){...on Message{messageId position cursor role createdAt finishReason storedText usage${usage} run{id}}}}`;
export const runsDocument = `query ConsoleSession($sessionId:String!){session(sessionId:$sessionId){sessionId messageCount readCount model instructions createdAt expiresAt metadata cursor memory{strategy maxTurns maxTokens}totalUsage${usage} forkedFrom{sessionId}queuedRuns{id model input{...on TextBlock{text}}}lastRun{id status model queuedAt startedAt finishedAt waitsUntil approvals{name}text notes usage${usage} error{code message}}}}`;

interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface MessageFacts {
  readonly messageId: string | null;
  readonly position: number;
  readonly cursor: string;
  readonly role: string;
  readonly createdAt: string | null;
  readonly finishReason: string | null;
  readonly storedText: string;
  readonly usage: Usage | null;
  readonly run: { readonly id: string } | null;
}

export interface RunFacts {
  readonly id: string;
  readonly status: string;
  readonly model: string;
  readonly queuedAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly waitsUntil: string | null;
  readonly approvals: readonly { readonly name: string }[];
  readonly text: string;
  readonly notes: readonly string[];
  readonly usage: Usage | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

export interface SessionFacts {
  readonly sessionId: string;
  readonly messageCount: number;
  readonly readCount: number;
  readonly model: string;
  readonly instructions: string | null;
  readonly createdAt: string | null;
  readonly expiresAt: string | null;
  readonly metadata: unknown;
  readonly cursor: string;
  readonly memory: { readonly strategy: string; readonly maxTurns: number | null; readonly maxTokens: number | null };
  readonly totalUsage: Usage;
  readonly forkedFrom: { readonly sessionId: string } | null;
  readonly queuedRuns: readonly {
    readonly id: string;
    readonly model: string;
    readonly input: readonly { readonly text?: string }[];
  }[];
  readonly lastRun: RunFacts | null;
}
