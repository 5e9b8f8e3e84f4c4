import type { JsonObject } from "../../conversation/message/json.ts";
import type { ProviderError } from "./provider-error.ts";

/**
 * Takes the records of a provider's stream one by one and gives the frames that LangChain gets in their place.
 *
 *     take… ─▶ finished? ─▶ done or end ─▶ over
 *        └──── an error of the provider ──▶ over
 */
export interface WholeStream {
  take(record: JsonObject, event: string | undefined): void;
  /** `data: [DONE]` was there. */
  done(): void;
  /** The body has ended; `clean`: the server ended it. After an unclean end that leaves a reply incomplete it is not over. */
  end(clean: boolean): void;
  /** What may follow changes nothing for the reply, so nobody has to wait for it long. */
  readonly isComplete: boolean;
  /** Nothing more is taken. */
  readonly isOver: boolean;
  /** What ended the reply; null where it is whole or goes on. */
  readonly error: ProviderError | null;
  /** The data of frames since the last call. */
  frames(): string[];
  /** The one object, in which a server answered although it was asked for a stream. */
  takeWhole(body: JsonObject): void;
}
