import { escapeFragment } from "../../../conversation/message/stored-message.ts";
import type { LogBatch, ProgressAnswer, TurnToken } from "../../../conversation/ports/store.ts";
import { number } from "../replies.ts";
import type { SessionCalls } from "../session-calls.ts";

const noLog: LogBatch = { offset: 0, lines: "" };

export async function progress(
  calls: SessionCalls,
  { historyKey, runId, token }: TurnToken,
  offset: number,
  text: string,
  { offset: logOffset, lines } = noLog,
): Promise<ProgressAnswer> {
  const answer = await calls.run(
    "progress",
    { owner: "*", key: historyKey },
    {
      runId,
      token,
      offset,
      fragment: escapeFragment(text),
      added: text.length,
      leaseMs: calls.settings.leaseMs,
      logOffset,
      lines,
      linesAdded: lines.length,
    },
  );
  if (answer.code === "OK") return { kind: "ok" };
  if (answer.code !== "LENGTH") return { kind: "closed" };
  return { kind: "length", length: number(answer.length), logLength: number(answer.logLength) };
}
