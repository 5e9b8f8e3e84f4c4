import type { Answer, ParleyError } from "./error.ts";

/** What carries subscriptions: a WebSocket for all of them, or a stream of server-sent events for each. */
export interface Link {
  /** Connects again for as long as nobody ends it. `variables` are asked for at each start. Returns what ends it. */
  follow(query: string, variables: () => object, sink: LinkSink): () => void;
  close(): void;
}

export interface LinkSink {
  next(answer: Answer): void;
  /** The connection is lost; another try is under way. */
  lost(): void;
  /** Nothing more will come. null: the gateway said so. */
  end(error: ParleyError | null): void;
}

/** What came over a subscription, character for character, and when its connection came and went. */
export interface RawEvent {
  readonly kind: "open" | "message" | "lost";
  readonly text: string;
}

export interface LinkOptions {
  readonly url: () => string;
  readonly token: () => Promise<string | null | undefined>;
  readonly onEvent: (event: RawEvent) => void;
  /** After so long without a byte a connection is taken for dead. */
  readonly silenceMs: number;
}
