import type { PageTool } from "../../../conversation/ports/model.ts";
import type { Resumed, StartedTurn } from "../../../conversation/ports/store.ts";
import type { Run } from "../../../conversation/run.ts";
import { fillTemplate, type RowTemplate } from "../../../conversation/message/stored-message.ts";
import type { AnswerOf, Reply } from "../contracts.ts";
import { headOf, list, memoryOf, number, runIn, stateOf, text, type Head } from "../replies.ts";
import type { SessionCalls } from "../session-calls.ts";

type Started = Extract<AnswerOf<"begin" | "attend" | "respond">, { readonly code: "STARTED" }>;

/** A turn that begin.lua or attend.lua has started for this process. */
export function startedTurn(calls: SessionCalls, key: string, answer: Started): StartedTurn {
  const head = headOf(answer.head);
  const state = stateOf(text(answer.run));
  const inputRow = text(answer.inputRow);
  const owner = text(answer.owner);
  const sessionId = calls.sessionIdOf(key);
  calls.note(owner, key, head);
  return {
    kind: "started",
    owner,
    sessionId,
    historyKey: key,
    runId: state.runId,
    token: state.token,
    state,
    run: runIn(sessionId, key, head.generation, state, {
      input: inputRow,
      text: "",
      log: "",
      userRow: inputRow,
      replyRow: "",
    }),
    inputRow,
    memory: memoryOf(text(answer.memory)),
    instructions: text(answer.instructions) || null,
    summary: text(answer.summary) || null,
    low: number(answer.low),
    rows: list(answer.rows).map(text).reverse(),
    tools: toolsOf(text(answer.tools)),
  };
}

/** The same of a run that has waited. */
export function resumedTurn(
  calls: SessionCalls,
  key: string,
  answer: Extract<AnswerOf<"attend" | "respond">, { readonly code: "STARTED" }>,
): StartedTurn & { readonly resumed: Resumed } {
  const resumed = { log: text(answer.log), state: text(answer.state), decisions: list(answer.decisions).map(text) };
  return { ...startedTurn(calls, key, answer), resumed };
}

/** As begin() was given them. */
function toolsOf(tools: string): readonly PageTool[] {
  return tools === "" ? [] : (JSON.parse(tools) as PageTool[]);
}

interface WrittenParts {
  readonly input: string;
  readonly text: string;
  readonly log: string;
  readonly userRow: string;
  readonly reply: RowTemplate | null;
}

/** The run that a script has just written, with what this process gave it: as a reading of that moment would have it. */
export function writtenRun(
  calls: SessionCalls,
  key: string,
  head: Head,
  answer: Reply | undefined,
  { reply, ...parts }: WrittenParts,
): Run {
  const state = stateOf(text(answer));
  const { userPosition, replyPosition } = state;
  return runIn(calls.sessionIdOf(key), key, head.generation, state, {
    ...parts,
    // Retention may have trimmed what it answers.
    userRow: userPosition !== null && userPosition >= head.base ? parts.userRow : "",
    replyRow: reply && replyPosition !== null ? fillTemplate(reply, replyPosition) : "",
  });
}
