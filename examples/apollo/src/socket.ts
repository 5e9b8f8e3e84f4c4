import { createClient } from "graphql-ws";

/** One socket for all subscriptions, which connects again for as long as it takes. */
export const socket = createClient({
  url: new URL("/graphql", location.href.replace(/^http/, "ws")).href,
  retryAttempts: Infinity,
  shouldRetry: () => true,
  // By default it waits twice as long after each failure, without an end.
  retryWait: (retries) => new Promise((resolve) => setTimeout(resolve, Math.min(1000 * 2 ** retries, 30_000))),
});
