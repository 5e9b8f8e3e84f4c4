import { HttpAgent } from "@ag-ui/client";
import type { AgentConfig, RunAgentInput } from "@ag-ui/client";

import type { ParleyClient } from "../client.ts";

export interface ParleyAgentConfig extends AgentConfig {
  readonly client: ParleyClient;
  /** Of the gateway's endpoint for AG-UI: "/ag-ui" unless said. */
  readonly url?: string;
}

/** By no name of rxjs: @ag-ui/client pins its own, and the types of another 7.8 are not the same to TypeScript. */
type Events = ReturnType<HttpAgent["run"]>;

/**
 * The gateway's AG-UI endpoint as an agent, with the client's token. `threadId` is the session's id. Beside what HttpAgent does:
 * a page that is loaded again connects, `abortRun` stops the reply for everybody, and `follow` shows what others write.
 */
export class ParleyAgent extends HttpAgent {
  // No private field: HttpAgent's clone makes an object without any.
  client: ParleyClient;

  constructor({ client, url = "/ag-ui", ...config }: ParleyAgentConfig) {
    super({ ...config, url, fetch: (path, init) => client.fetch(path, init) });
    this.client = client;
  }

  override clone(): this {
    const copy = super.clone() as this; // its prototype is this one's
    copy.client = this.client;
    return copy;
  }

  /** The stream ends with the reply, which keeps the text that it has. */
  override abortRun(): void {
    const { client, threadId } = this;
    const stop = async () => {
      const { session } = await client.load(threadId);
      await client.session(threadId).cancel(session?.activeRun?.id);
    };
    // That the reply has ended by itself in this moment is no fault.
    stop().catch(() => undefined);
  }

  /** The thread as it is, and the reply that is being made. */
  protected override connect(input: RunAgentInput): Events {
    return this.run({ ...input, messages: [] });
  }

  /** Between its own runs the agent shows what others write, and joins their runs. Returns what ends it. */
  follow(): () => void {
    const store = this.client.session(this.threadId);
    let shown = "";
    const look = () => {
      const { messages, run, connection } = store.getSnapshot();
      if (this.isRunning || connection !== "live") return;
      const approvals = run?.approvals ?? [];
      // Calls of the page's tools are no interrupts.
      const waiting = approvals.filter(({ allowed }) => allowed.includes("REJECT")).map(({ callId }) => callId);
      const calls = this.messages.flatMap((message) => (message.role === "assistant" ? (message.toolCalls ?? []) : []));
      // Its page shows what waits already, and runs again with the results by itself: a run in between would be in its way.
      const isTold = approvals.length > 0 && approvals.every(({ callId }) => calls.some(({ id }) => id === callId));
      const state = [
        run?.id,
        run?.status,
        ...approvals.map(({ callId }) => callId),
        ...messages.map(({ id, status }) => id + status),
      ].join(" ");
      const known = this.messages.flatMap(({ id, role }) => (role === "user" || role === "assistant" ? [id] : []));
      const spoken = messages.filter(
        ({ role, position }) => position !== null && (role === "USER" || role === "ASSISTANT"),
      );
      const isSame =
        spoken.length === known.length &&
        spoken.every(({ id, messageId }) => known.includes(id) || known.includes(messageId ?? id));
      const asked = this.pendingInterrupts.map(({ id }) => id);
      const isShown = isTold || (isSame && run?.status !== "RUNNING");
      if (state === shown || (isShown && waiting.join() === asked.join())) return;
      shown = state;
      // It refuses to run while some are open; those that are still are told anew.
      this.pendingInterrupts = [];
      // Why it fails its subscribers are told; it is tried again with what happens next.
      this.connectAgent().catch(() => undefined);
    };
    const leave = store.subscribe(look);
    // What has happened while a run of its own went on.
    const { unsubscribe } = this.subscribe({ onRunFinalized: () => void setTimeout(look) });
    look();
    return () => {
      leave();
      unsubscribe();
    };
  }
}
