import { createClient, type Client } from "graphql-ws";
import { WebSocket } from "ws";

/** A message as a client holds it. */
export interface Held {
  readonly messageId: string | null;
  readonly cursor: string;
}

interface Node extends Held {
  readonly position: number;
}

type Event =
  | { readonly __typename: "StreamOpened"; readonly cursor: string }
  | { readonly __typename: "MessageAdded"; readonly message: Node }
  | {
      readonly __typename: "HistoryReset";
      readonly kept: number;
      readonly cursor: string;
      readonly session: { readonly messageCount: number; readonly messages: { readonly nodes: readonly Node[] } };
    }
  | { readonly __typename: "SessionRemoved" };

const query = `subscription ($sessionId: String!, $after: String) {
  sessionEvents(sessionId: $sessionId, after: $after) {
    __typename
    ... on StreamOpened { cursor }
    ... on MessageAdded { message { position cursor messageId } }
    ... on HistoryReset {
      kept cursor session { messageCount messages(last: 200) { nodes { position cursor messageId } } }
    }
  }
}`;

const retryMs = 50;

/**
 * A frontend that follows one session and keeps what it was told, by position. It comes back with its newest cursor as
 * often as its stream ends, to the next gateway in turn.
 */
export class Subscriber {
  readonly sessionId: string;
  readonly held = new Map<number, Held>();
  /** When a message came first, by performance.now(). */
  readonly cameAt = new Map<string, number>();
  /** Where the next message must come. */
  next = 0;
  resets = 0;
  duplicated = 0;
  outOfOrder = 0;
  /** Refusals that say something else than "not now". */
  readonly unexpected: string[] = [];
  readonly #urls: readonly string[];
  #after = "";
  #turn: number;
  #client: Client | null = null;
  #closed = false;

  constructor(sessionId: string, urls: readonly string[], first: number) {
    this.sessionId = sessionId;
    this.#urls = urls;
    this.#turn = first;
    this.#follow();
  }

  close(): void {
    this.#closed = true;
    void this.#client?.dispose();
  }

  #follow(): void {
    if (this.#closed) return;
    const url = this.#urls[this.#turn % this.#urls.length] ?? "";
    const client = createClient({ url: url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
    this.#client = client;
    const again = () => {
      if (this.#client !== client) return;
      this.#client = null;
      this.#turn++;
      void client.dispose();
      setTimeout(() => this.#follow(), retryMs);
    };
    client.subscribe<{ readonly sessionEvents: Event }>(
      { query, variables: { sessionId: this.sessionId, after: this.#after } },
      {
        next: ({ data, errors }) => {
          if (data) this.#apply(data.sessionEvents);
          else this.#refused(JSON.stringify(errors));
        },
        error: (error) => {
          if (Array.isArray(error)) this.#refused(JSON.stringify(error));
          again();
        },
        complete: again,
      },
    );
  }

  #refused(errors: string): void {
    if (!errors.includes("STORE_UNAVAILABLE")) this.unexpected.push(errors);
  }

  #apply(event: Event): void {
    switch (event.__typename) {
      case "StreamOpened":
        return;
      case "MessageAdded": {
        const { position, cursor, messageId } = event.message;
        if (messageId !== null && !this.cameAt.has(messageId)) this.cameAt.set(messageId, performance.now());
        if (position < this.next && this.held.get(position)?.cursor === cursor) this.duplicated++;
        else if (position !== this.next) this.outOfOrder++;
        this.held.set(position, { cursor, messageId });
        this.next = position + 1;
        this.#after = cursor;
        return;
      }
      case "HistoryReset":
        this.resets++;
        this.#after = event.cursor;
        this.#reset(event.kept, event.session.messages.nodes, event.session.messageCount);
        return;
      case "SessionRemoved":
        this.resets++;
        this.#after = "";
        this.#reset(0, [], 0);
    }
  }

  #reset(kept: number, nodes: readonly Node[], end: number): void {
    for (const position of [...this.held.keys()]) if (position >= kept) this.held.delete(position);
    this.next = kept;
    if (kept > 0) return;
    for (const { position, cursor, messageId } of nodes) this.held.set(position, { cursor, messageId });
    this.next = end;
  }
}
