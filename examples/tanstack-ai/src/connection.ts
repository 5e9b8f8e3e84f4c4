import { fetchServerSentEvents } from "@tanstack/ai-react";
import type { ConnectConnectionAdapter } from "@tanstack/ai-react";

const events = fetchServerSentEvents("/ag-ui");

/**
 * A run without messages brings the thread's history, and the reply that is being made, if any: so a page that is loaded anew
 * joins under the name of its thread.
 */
export const connection: ConnectConnectionAdapter = {
  connect: events.connect,
  hydrate: async (threadId) => ({ messages: [], activeRun: { runId: threadId }, interrupts: null }),
  joinRun: (threadId, signal) => events.connect([], undefined, signal, { threadId, runId: crypto.randomUUID() }),
};
