import type { ToolFunction } from "../page-tools.ts";
import type { SessionSnapshot } from "../session.ts";

type Waiting = Pick<SessionSnapshot, "run" | "acting">;

/** Whether somebody has to decide, or to carry out a call: what this tab carries out by itself goes on without. */
export function waitsForSomebody({ run, acting }: Waiting): boolean {
  return run?.status === "WAITING" && run.approvals.some(({ callId }) => !acting.includes(callId));
}

/** What came of a call, as `runTool` takes it. */
export function broughtAs(output: unknown, isError: boolean): ToolFunction {
  return () => {
    if (isError) throw new Error(typeof output === "string" ? output : JSON.stringify(output));
    return output;
  };
}
