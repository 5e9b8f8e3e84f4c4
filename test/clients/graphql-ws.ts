import { createClient } from "graphql-ws";
import type { Client, ClientOptions } from "graphql-ws";

/** `url`: of the endpoint, http: or https:. Connects when it is first used, and again whenever the connection is lost. */
export function connect(url: string, options: Partial<ClientOptions> = {}): Client {
  let pongDue: ReturnType<typeof setTimeout> | undefined;
  const client = createClient({
    url: url.replace(/^http/, "ws"),
    retryAttempts: Infinity,
    // By default a connection that ends with an error event before its close event (Node's WebSocket does so when it is
    // cut) is given up. Close codes that say a retry is of no use, like 4401, end it all the same.
    shouldRetry: () => true,
    // By default it waits twice as long after each failure, without an end: 17 minutes after the tenth.
    retryWait: (retries) => {
      const ms = Math.min(1000 * 2 ** retries, 30_000) * (0.5 + Math.random() / 2);
      return new Promise((resolve) => setTimeout(resolve, ms));
    },
    // A browser does not tell of the gateway's pings: that the link is dead shows when ours are not answered.
    keepAlive: 10_000,
    on: {
      ping: (received) => {
        if (!received) pongDue = setTimeout(() => client.terminate(), 5000);
      },
      pong: () => clearTimeout(pongDue),
      closed: () => clearTimeout(pongDue),
    },
    ...options,
  });
  return client;
}

/** Brings each message of a session once, from the first one on, over reconnects. Returns what ends it. */
export function followMessages(client: Client, sessionId: string, onText: (text: string) => void): () => void {
  let cursor = "";
  const variables = {
    sessionId,
    // graphql-ws writes the variables anew each time it connects: a getter resumes from the newest cursor. With a plain
    // value all since the first `after` would come again, which does no harm either.
    get after() {
      return cursor;
    },
  };
  return client.subscribe<{ messageAdded: { text: string; cursor: string } }>(
    { query: messageAdded, variables },
    {
      next({ data, errors }) {
        // A subscription that is refused comes as errors without data, then its end.
        if (!data) throw new Error(JSON.stringify(errors));
        cursor = data.messageAdded.cursor;
        onText(data.messageAdded.text);
      },
      error: (error) => {
        throw new Error("The stream has ended", { cause: error });
      },
      complete: () => undefined,
    },
  );
}

const messageAdded = /* GraphQL */ `
  subscription MessageAdded($sessionId: String!, $after: String) {
    messageAdded(sessionId: $sessionId, after: $after) {
      text
      cursor
    }
  }
`;
