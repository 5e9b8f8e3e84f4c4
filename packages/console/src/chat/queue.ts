import type { SessionStore } from "../../../client/src/client.ts";
import { client } from "../wire/client.ts";

const document = "query ConsoleQueue($sessionId:String!){session(sessionId:$sessionId){queuedRuns{id userMessageId}}}";

interface Queue {
  readonly session: { readonly queuedRuns: readonly { readonly id: string; readonly userMessageId: string }[] } | null;
}

/** Takes a message out of the queue, by the run that waits with it. */
export async function dropQueued(store: SessionStore, messageId: string): Promise<void> {
  const { sessionId } = store;
  const { session } = await client.request<Queue>(document, { sessionId });
  const run = session?.queuedRuns.find(({ userMessageId }) => userMessageId === messageId);
  // Its turn may have come in the meantime: then there is nothing to take out.
  if (run !== undefined) await store.cancel(run.id);
}
