import { ParleyError } from "./error.ts";
import type { Approval, Decision, RunInfo } from "./run.ts";

/** A tool of the page's own, for an agent that takes such: it is told to the model with a message, and the page carries out its calls. */
export interface PageTool {
  /** 1 to 64 of A-Z a-z 0-9 _ -; none that the agent has itself. */
  readonly name: string;
  /** What it does, for the model. */
  readonly description: string;
  /** The JSON Schema of its arguments, with "type": "object". Nobody holds the arguments of a call against it but the page. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /**
   * Carries out a call, by itself in the tab that has sent the message: what it gives is the result, as text or as JSON, and what it
   * throws tells the model that it failed. Without it the user does, and `runTool` brings what came of it.
   */
  readonly run?: ToolFunction;
}

export type ToolFunction = (args: Approval["args"], call: BegunCall) => unknown;

export interface BegunCall {
  readonly callId: string;
  readonly runId: string;
  /** Aborts when the run has ended: nobody waits for the result any more. */
  readonly signal: AbortSignal;
}

interface Host {
  readonly run: () => RunInfo | null;
  readonly decide: (decisions: readonly Decision[], runId: string, tries: number) => Promise<RunInfo>;
  readonly settled: (runId: string) => Promise<RunInfo>;
  readonly changed: () => void;
}

/** A run that this tab has asked for. */
interface OwnRun {
  /** null: whichever the session has; a component that renders again gives functions of its own anew. */
  readonly tools: readonly PageTool[] | null;
  /** Calls that were carried out here by themselves: none is a second time. */
  readonly begun: Set<string>;
}

/** The page's tools of one session, in this tab. */
export class PageTools {
  /** The calls that are being carried out here. */
  acting: readonly string[] = [];
  /** What is sent gives these, unless it says which. */
  current: readonly PageTool[] | undefined;
  readonly actions = {
    setTools: (tools: readonly PageTool[]): void => {
      this.current = tools;
      this.#lists.add(tools);
      this.look();
    },
    runTool: (callId: string, work?: ToolFunction): Promise<RunInfo> => this.#run(callId, work),
  };
  readonly #host: Host;
  /** All that were the session's. */
  readonly #lists = new WeakSet<readonly PageTool[]>();
  readonly #own = new Map<string, OwnRun>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** This tab has asked for the run: it follows it to its end, so as to carry out its calls. */
  sent({ id }: RunInfo, tools: readonly PageTool[] = []): void {
    if (this.#own.has(id) || !tools.some(({ run }) => run)) return;
    this.#own.set(id, { tools: this.#lists.has(tools) ? null : tools, begun: new Set() });
    void this.#host.settled(id).then(() => this.#own.delete(id));
    this.look();
  }

  /** Carries out what this tab is to carry out by itself. */
  look(): void {
    const run = this.#host.run();
    const begun = run?.status === "WAITING" && this.#own.get(run.id)?.begun;
    if (!run || !begun) return;
    for (const { callId, name, allowed } of run.approvals) {
      if (!allowed.includes("BEGIN") || begun.has(callId) || this.#functionOf(run.id, name) === undefined) continue;
      begun.add(callId);
      // Somebody has begun it in another tab, or the run has ended: it is not this tab's any more.
      this.#run(callId).catch(() => undefined);
    }
  }

  async #run(callId: string, work?: ToolFunction): Promise<RunInfo> {
    const run = this.#host.run();
    const call = run?.approvals.find((one) => one.callId === callId);
    if (!run || !call) throw new ParleyError("NOT_WAITING", "No run waits for this call now.");
    const act = work ?? this.#functionOf(run.id, call.name);
    if (!act) throw new ParleyError("BAD_USER_INPUT", `This page has no function for the tool "${call.name}".`);
    const ending = new AbortController();
    const { settled, changed } = this.#host;
    // Until the gateway has taken or refused it: what the page has done is not to be lost with a connection.
    const decide = (decision: Decision) => this.#host.decide([decision], run.id, Infinity);
    this.acting = [...this.acting, callId];
    changed();
    try {
      // What was begun before, and is lost, is not done again: but who knows what came of it may tell.
      if (!work || call.allowed.includes("BEGIN")) await decide({ begin: { callId } });
      void settled(run.id).then(() => ending.abort());
      const { signal } = ending;
      const result = await resultOf(() => act(call.args, { callId, runId: run.id, signal }));
      return await decide({ result: { callId, ...result } });
    } finally {
      this.acting = this.acting.filter((one) => one !== callId);
      changed();
    }
  }

  #functionOf(runId: string, name: string): ToolFunction | undefined {
    return (this.#own.get(runId)?.tools ?? this.current)?.find((tool) => tool.name === name)?.run;
  }
}

async function resultOf(work: () => unknown): Promise<{ readonly text: string; readonly failed?: boolean }> {
  try {
    const result = await work();
    // Of a tool that gives nothing it is empty.
    return { text: typeof result === "string" ? result : result === undefined ? "" : JSON.stringify(result) };
  } catch (why) {
    return { text: why instanceof Error ? why.message : String(why), failed: true };
  }
}
