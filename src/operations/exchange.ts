import { unauthenticated } from "../conversation/conversations/access.ts";
import type { Caller } from "../conversation/conversations/api.ts";
import type { Resume } from "../graphql/context.ts";
import { watchExpiry } from "./expiry.ts";
import type { Identify, Identity, RequestHeaders, Revocation, Validity } from "./identity.ts";

/** Of one operation. */
export interface Place {
  /** Twice is safe. */
  leave(): void;
  /** The operation waits for something that others do. Returns what to call when it goes on. */
  wait(): () => void;
}

/** The operations that came over HTTP and are not over yet. */
export class OpenExchanges {
  readonly #identify: Identify;
  readonly #open = new Set<Exchange>();

  constructor(identify: Identify) {
    this.#identify = identify;
  }

  open(headers: RequestHeaders): Exchange {
    const exchange = new Exchange(() => this.#identify(headers, null), headers.get("last-event-id"));
    this.#open.add(exchange);
    exchange.onEnd(() => this.#open.delete(exchange));
    return exchange;
  }

  endAll(): void {
    for (const exchange of this.#open) exchange.end();
  }
}

/** One for all: making an error for each request, with its stack, costs more than the signal. */
const over = new DOMException("The operation is over, or its client gone.", "AbortError");

/**
 * One operation on its way: an HTTP request, or one `subscribe` message of a WebSocket. A class without closures but one:
 * each subscriber keeps one for as long as it listens.
 */
export class Exchange implements Validity, Omit<Caller, "viewer"> {
  readonly resume: Resume;
  /** Its place among the operations that are being executed, once it has one; left at its end, if not before. */
  place: Place | null = null;
  readonly #identify: Identity | (() => Identity | Promise<Identity>);
  #identity: Promise<Identity> | null = null;
  #validity: Validity & Pick<Identity, "token"> = unknownValidity;
  #controller: AbortController | null = null;
  #listeners: (() => void)[] | null = null;
  #ended = false;

  /** `identify`: who it is, or what tells. */
  constructor(identify: Identity | (() => Identity | Promise<Identity>), lastEventId: string | null) {
    this.#identify = identify;
    this.resume = { lastEventId, cursor: null };
  }

  /** Asked once, however often it is called. What the two below say is known from then on. */
  identity(): Promise<Identity> {
    return (this.#identity ??= this.#ask());
  }

  get expiresAt(): number | null {
    return this.#validity.expiresAt;
  }

  get revocation(): Revocation | null {
    return this.#validity.revocation ?? null;
  }

  get userToken(): string | null {
    return this.#validity.token ?? null;
  }

  /** Made when it is first asked for: few operations need one. */
  get signal(): AbortSignal {
    if (this.#controller !== null) return this.#controller.signal;
    this.#controller = new AbortController();
    if (this.#ended) this.#controller.abort(over);
    return this.#controller.signal;
  }

  async whileWaiting<Result>(work: () => Promise<Result>): Promise<Result> {
    const goOn = this.place?.wait();
    const expiry = watchExpiry(this, this.end);
    const result = await work().finally(() => {
      expiry.stop();
      goOn?.();
    });
    if (expiry.passed()) throw unauthenticated();
    return result;
  }

  /** The listener is called when the operation is over: at once, if it is. */
  onEnd(listener: () => void): void {
    if (this.#ended) listener();
    else (this.#listeners ??= []).push(listener);
  }

  /** Safe to call twice. */
  readonly end = (): void => {
    if (this.#ended) return;
    this.#ended = true;
    this.place?.leave();
    this.#controller?.abort(over);
    for (const listener of this.#listeners ?? []) listener();
    this.#listeners = null;
  };

  async #ask(): Promise<Identity> {
    const known = typeof this.#identify === "function" ? await this.#identify() : this.#identify;
    this.#validity = known;
    return known;
  }
}

const unknownValidity: Validity = { expiresAt: null };
