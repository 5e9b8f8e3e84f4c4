import { GraphQLError } from "graphql";

import type { Limits } from "../../config/limits.ts";
import { ParleyError } from "../../conversation/errors.ts";
import { limitReached, rateLimited } from "../../conversation/ports/quotas.ts";
import type { LimitName } from "../../conversation/limit-names.ts";
import { anonymous } from "../../conversation/session.ts";
import type { Viewer } from "../../conversation/session.ts";
import type { Telemetry } from "../../conversation/ports/telemetry.ts";
import { toGraphQLError } from "../../graphql/errors.ts";
import type { RequestHeaders } from "../../operations/identity.ts";
import { addressReader } from "./address.ts";
import { Counts } from "./counts.ts";
import type { Place } from "../../operations/exchange.ts";
import { Rates } from "./rate.ts";

type Leave = () => void;

/**
 * By what a client is counted: its address, or the network that it can choose one from; null: by nothing. Found out where
 * something is counted by it: most requests of most gateways are not.
 */
export type ClientAddress = () => string | null;

/** What one process bears of its clients. Each refusal is counted by the limit's name, and nothing was done for it. */
export interface Guard {
  address(headers: RequestHeaders, peer: string | null): ClientAddress;
  /** Why nothing of this request is worth reading now, or null. Counts it. */
  request(address: ClientAddress): GraphQLError | null;
  /** An operation begins: gives the place that it takes until it is answered, or why it is refused. */
  operation(): Place | GraphQLError;
  /** So many bytes of an answer are made. Returns what to call once when the network has them, or nobody wants them. */
  hold(bytes: number): Leave;
  /** A WebSocket or a stream is opened from this address, and by this viewer: each null where there are too many. */
  socketFrom(address: ClientAddress): Leave | null;
  socketOf(viewer: Viewer): Leave | null;
  /** Why one more operation on a socket that has so many is refused, or null. */
  subscription(inProgress: number): GraphQLError | null;
  /** A socket sends faster than it is read, or a connection was dropped. */
  limited(limit: LimitName): void;
  close(): void;
}

const overloadRetrySeconds = 1;

export function createGuard(limits: Limits, telemetry: Telemetry): Guard {
  const addressOf = addressReader(limits.trustProxy);
  const rates = limits.maxRequestsPerMinute === null ? null : new Rates(limits.maxRequestsPerMinute);
  const fromAddress = new Counts(limits.maxSocketsPerAddress);
  const ofSubject = new Counts(limits.maxSocketsPerSubject);
  const gate = createGate(limits);

  function refuse(error: ParleyError, limit: LimitName): GraphQLError {
    telemetry.refused(error.code);
    telemetry.limited(limit);
    return refusalOf(error);
  }

  function overload(): GraphQLError | null {
    const limit = gate.full();
    return limit === null ? null : refuse(overloaded(limit), limit);
  }

  function take(counts: Counts, key: string | null, limit: LimitName): Leave | null {
    const leave = counts.take(key);
    if (leave === null) {
      telemetry.refused("LIMIT_REACHED");
      telemetry.limited(limit);
    }
    return leave;
  }

  return {
    address: (headers, peer) => () => addressOf(headers, peer),
    request(address) {
      const from = rates === null ? null : address();
      const retryAfterSeconds = from === null ? 0 : (rates?.take(from) ?? 0);
      if (retryAfterSeconds === 0) return overload();
      const limit = "requestsPerAddress";
      return refuse(rateLimited({ limit, retryAfterSeconds }), limit);
    },
    operation: () => overload() ?? gate.enter(),
    hold: (bytes) => gate.hold(bytes),
    socketFrom: (address) => take(fromAddress, address(), "socketsPerAddress"),
    // Without authentication everybody is this one viewer: the limit of one person does not fit.
    socketOf: (viewer) => take(ofSubject, viewer === anonymous ? null : viewer.subject, "socketsPerSubject"),
    subscription(inProgress) {
      const most = limits.maxSubscriptionsPerSocket;
      if (inProgress < most) return null;
      const limit = "subscriptionsPerSocket";
      const message = `At most ${most} operations may be in progress on one socket. Complete some, or open another.`;
      return refuse(limitReached(limit, message), limit);
    },
    limited: (limit) => telemetry.limited(limit),
    close: () => gate.close(),
  };
}

/** Over HTTP instead of a stream; a WebSocket is closed. */
export function tooManySockets(): GraphQLError {
  const message = "There are too many open sockets and streams from here. Close some.";
  return refusalOf(limitReached("socketsPerSubject", message));
}

function overloaded(limit: LimitName): ParleyError {
  const message = "The gateway has more to do than it can. Try again in a moment.";
  return new ParleyError("OVERLOADED", message, { limit, retryAfterSeconds: overloadRetrySeconds });
}

/** With what Yoga and the answers around it make a status and headers of. */
function refusalOf(error: ParleyError): GraphQLError {
  const { retryAfterSeconds } = error.details;
  const { message, extensions } = toGraphQLError(error);
  const headers = retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) };
  const status = error.code === "OVERLOADED" ? 503 : 429;
  return new GraphQLError(message, { extensions: { ...extensions, http: { status, headers } } });
}

/**
 * How much the process executes at a time. What is too much is refused at once, which costs next to nothing, so that what
 * was let in is answered soon (P10) and refused clients come back when there is room.
 *
 *     enter ─▶ executing ─(it waits for a reply)─▶ waiting ─(the reply is there)─▶ executing ─▶ left
 *                  └──────────────────────────(answered)─────────────────────────────▶ left
 */
export function createGate(limits: GateLimits) {
  const { maxConcurrentOperations, maxEventLoopLagMs, maxPendingAnswerBytes } = limits;
  let executing = 0;
  let pending = 0;
  const count = (change: 1 | -1) => void (executing += change);
  const loop = new LoopLag();

  return {
    /** Operations being executed. */
    get size() {
      return executing;
    },
    /** Which limit leaves no room for an operation, or null. */
    full(): LimitName | null {
      const { lagMs } = loop;
      if (executing >= maxConcurrentOperations) return "operations";
      if (pending > maxPendingAnswerBytes) return "pendingAnswerBytes";
      return lagMs > maxEventLoopLagMs ? "eventLoopLag" : null;
    },
    /** So many bytes of an answer are made. Returns what to call once when the network has them, or nobody wants them. */
    hold(bytes: number): Leave {
      pending += bytes;
      return () => void (pending -= bytes);
    },
    /** Takes a place until it is left. It takes one also where there is none. */
    enter: () => new TakenPlace(count),
    close: () => loop.close(),
  };
}

type GateLimits = Pick<Limits, "maxConcurrentOperations" | "maxEventLoopLagMs" | "maxPendingAnswerBytes">;

/** How often the event loop is asked how late it is, while operations come. */
const tickMs = 100;
/** So many times behind the last operation it is not asked any more: a process that only waits is not woken for it. */
const ticksBehind = 5;

/** How late the event loop is. It is looked at from the first time that somebody asks until nobody has asked for a while. */
class LoopLag {
  #timer: NodeJS.Timeout | null = null;
  #expectedAt = 0;
  #newest = 0;
  #before = 0;
  #unasked = 0;

  /** The smaller of the last two: one alone may be a collection of garbage, or one large answer. */
  get lagMs(): number {
    this.#unasked = 0;
    if (this.#timer === null) {
      this.#expectedAt = performance.now() + tickMs;
      this.#timer = setInterval(() => this.#tick(), tickMs).unref();
    }
    return Math.min(this.#newest, this.#before);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#newest = this.#before = 0;
  }

  #tick(): void {
    const now = performance.now();
    this.#before = this.#newest;
    this.#newest = now - this.#expectedAt;
    this.#expectedAt = now + tickMs;
    if (++this.#unasked > ticksBehind) this.close();
  }
}

/** Several fields of one operation may wait at a time: while one of them does, the operation counts as waiting. */
class TakenPlace implements Place {
  readonly #count: (change: 1 | -1) => void;
  #waits = 0;
  #left = false;

  constructor(count: (change: 1 | -1) => void) {
    this.#count = count;
    count(1);
  }

  wait(): () => void {
    if (this.#waits++ === 0 && !this.#left) this.#count(-1);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      if (--this.#waits === 0 && !this.#left) this.#count(1);
    };
  }

  leave(): void {
    if (this.#left) return;
    this.#left = true;
    if (this.#waits === 0) this.#count(-1);
  }
}
