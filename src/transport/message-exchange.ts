import type { Resume } from "../graphql/context.ts";
import type { Exchange, Identity, Revocation } from "./exchange.ts";

/** One for all, as for requests (exchange.ts). */
const over = new DOMException("The operation is complete, or its client gone.", "AbortError");

/**
 * The exchange of a `subscribe` message, whose sender is known already. A class, because each subscriber keeps one for as
 * long as it listens.
 */
export class MessageExchange implements Exchange {
  readonly resume: Resume = { lastEventId: null, cursor: null };
  readonly #identity: Identity;
  readonly #controller = new AbortController();

  constructor(identity: Identity) {
    this.#identity = identity;
  }

  /** As functions, not methods: they may be handed on without the exchange. */
  readonly identity = (): Promise<Identity> => Promise.resolve(this.#identity);
  readonly end = (): void => this.#controller.abort(over);

  get expiresAt(): number | null {
    return this.#identity.expiresAt;
  }

  get revocation(): Revocation | null {
    return this.#identity.revocation ?? null;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }
}
