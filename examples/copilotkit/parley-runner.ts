import { HttpAgent } from "@ag-ui/client";
import { AgentRunner } from "@copilotkit/runtime/v2";
import type { AgentRunnerConnectRequest, AgentRunnerRunRequest, AgentRunnerStopRequest } from "@copilotkit/runtime/v2";
import { parleyUrl } from "./parley-url";

/** The runtime's own runner keeps threads in its memory. This one leaves them to the gateway, where they stay. */
export class ParleyRunner extends AgentRunner {
  override run({ agent, input }: AgentRunnerRunRequest) {
    return agent.run(input);
  }

  /** A run without messages brings the thread's history, and the reply that is being made, if any. */
  override connect({ threadId, headers }: AgentRunnerConnectRequest) {
    const agent = new HttpAgent({ url: `${parleyUrl}/ag-ui`, ...(headers && { headers }) });
    return agent.run({
      threadId,
      runId: crypto.randomUUID(),
      messages: [],
      tools: [],
      context: [],
      state: {},
      forwardedProps: {},
    });
  }

  override async isRunning() {
    return false; // what is sent while a reply is being made waits in the gateway
  }

  override async stop({ threadId }: AgentRunnerStopRequest) {
    const asked = await ask("query ($id: String!) { session(sessionId: $id) { activeRun { id } } }", { id: threadId });
    const id = asked.data?.session?.activeRun?.id;
    if (id === undefined) return false;
    await ask("mutation ($id: ID!) { cancelRun(input: { runId: $id }) { run { id } } }", { id });
    return true;
  }
}

interface Answer {
  readonly data?: { readonly session?: { readonly activeRun: { readonly id: string } | null } | null };
}

async function ask(query: string, variables: object): Promise<Answer> {
  const answer = await fetch(`${parleyUrl}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  return (await answer.json()) as Answer;
}
