import type { Answer, Piece, ReplyOutcome, Step } from "../../../src/conversation/ports/model.ts";
import type { AgentSpec } from "../../../src/langchain/agents/spec.ts";
import type { RepliesOptions, ToolFailure } from "../../../src/langchain/replies.ts";
import type { Reply } from "./openai-server.ts";
import { human, repliesAt, requestOf } from "./reply-requests.ts";

/** One run of an agent without a gateway around it, and all that it told. */
export interface AgentRun {
  readonly pieces: Piece[];
  readonly opened: Step[];
  readonly answers: Answer[];
  readonly failures: ToolFailure[];
  readonly outcome: ReplyOutcome;
}

export interface AgentRunOptions {
  readonly signal?: AbortSignal;
  readonly rows?: readonly string[];
  readonly open?: (step: Step) => Promise<boolean>;
  readonly onAnswer?: (answer: Answer) => void;
  readonly replies?: Partial<RepliesOptions>;
}

export async function runAgent(baseUrl: string, spec: AgentSpec, options: AgentRunOptions = {}): Promise<AgentRun> {
  const { signal, rows = [], open, onAnswer } = options;
  const pieces: Piece[] = [];
  const opened: Step[] = [];
  const answers: Answer[] = [];
  const failures: ToolFailure[] = [];
  const replies = repliesAt(baseUrl, {
    agents: [spec],
    onToolFailure: (one) => failures.push(one),
    ...options.replies,
  });
  const outcome = await replies.reply(
    requestOf({
      ...{ model: `agent:${spec.name}`, rows, input: human("How is it in Rome?") },
      ...(signal === undefined ? {} : { signal }),
      emit: (piece) => pieces.push(piece),
      steps: {
        open(step) {
          opened.push(step);
          return open?.(step) ?? Promise.resolve(true);
        },
        wait: () => Promise.reject(new Error("A step that waits")),
        claim: () => Promise.reject(new Error("A claim")),
        answer(answer) {
          answers.push(answer);
          onAnswer?.(answer);
          return Promise.resolve(true);
        },
      },
    }),
  );
  return { pieces, opened, answers, failures, outcome };
}

/** A reply that calls tools. */
export const calls = (...given: readonly (readonly [id: string, args: string, name?: string])[]): Reply => ({
  kind: "reply",
  text: "",
  finishReason: "tool_calls",
  toolCalls: given.map(([id, args, name = "weather"]) => ({ id, name, arguments: args })),
});
