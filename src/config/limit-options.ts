import type { QuotaLimits } from "../conversation/ports/limits.ts";
import type { TransportLimits } from "../transport/guard/settings.ts";

/** How much clients may. null means as much as they like; what is left out has the default in brackets. */
export interface LimitOptions {
  /**
   * How often a subject may have a model called within any 60 seconds, over all gateways (600 with authentication, else
   * null: there everybody is the one subject). A retry never counts.
   */
  readonly maxSendsPerMinute?: number | null;
  /** Replies of a subject that may be going or waiting at a time, over all gateways (50 with authentication, else null). */
  readonly maxRunsPerSubject?: number | null;
  /** Tokens that a subject may have used since midnight (UTC) when it sends, over all gateways (null). */
  readonly maxTokensPerDay?: number | null;
  /** Sessions of an owner (10,000 with authentication, else null). */
  readonly maxSessionsPerOwner?: number | null;
  /** UTF-16 units (500). */
  readonly maxTitleChars?: number;
  /** Of a session's metadata as JSON (16,384). */
  readonly maxMetadataBytes?: number;
  /** In one addMessages (1000). */
  readonly maxMessagesPerAdd?: number;
  /** Operations in progress on one WebSocket (500). */
  readonly maxSubscriptionsPerSocket?: number;
  /** Open WebSockets and event streams of a subject in this process (1000); without authentication nobody is one. */
  readonly maxSocketsPerSubject?: number | null;
  /** The same from one address, of IPv6 from one /64 (2000). */
  readonly maxSocketsPerAddress?: number | null;
  /** Messages and pings that are read of one WebSocket in a second; more wait in the network (1000). */
  readonly maxMessagesPerSecond?: number;
  /** HTTP requests and upgrades from one address in a minute (null). */
  readonly maxRequestsPerMinute?: number | null;
  /** TCP connections (50,000). */
  readonly maxConnections?: number;
  /** Operations that this process executes at a time; those that wait for a reply do not count (2000). */
  readonly maxConcurrentOperations?: number;
  /**
   * What one answer may hold: of a query, a mutation, or one event of a subscription (16 MiB). What a field would have
   * beyond it is TOO_COMPLEX.
   */
  readonly maxAnswerBytes?: number;
  /** What this process may have made of answers over HTTP that their readers did not take yet, before it refuses operations (256 MiB). */
  readonly maxPendingAnswerBytes?: number;
  /** How late this process may be, in ms, before it refuses operations (2000). */
  readonly maxEventLoopLagMs?: number;
  /** How long a request may take to send its headers (10,000), and to arrive whole (30,000). */
  readonly headersTimeoutMs?: number;
  readonly requestTimeoutMs?: number;
  /** Of a request (16,384). */
  readonly maxHeaderBytes?: number;
  /** How long a connection may be without a request (65,000): longer than load balancers keep theirs. */
  readonly keepAliveTimeoutMs?: number;
  /** How long a WebSocket may take to say connection_init (3000). */
  readonly initTimeoutMs?: number;
  /** Between pings and SSE comments (12,000); a WebSocket that leaves a ping unanswered until the next is cut off. */
  readonly keepAliveMs?: number;
  /** How long bytes may wait for a reader that takes none before it is cut off (30,000). */
  readonly slowReaderMs?: number;
  /**
   * Whose X-Forwarded-For is believed: so many proxies in front of this process, or those of these addresses and
   * networks ("10.0.0.0/8"). Left out: nobody's, and clients behind a proxy count as one address.
   */
  readonly trustProxy?: number | readonly string[] | null;
}

export function quotaLimits(options: LimitOptions, authenticates: boolean): QuotaLimits {
  const orElse = (given: number | null | undefined, fallback: number) =>
    given === undefined ? (authenticates ? fallback : null) : given;
  return {
    sendsPerMinute: orElse(options.maxSendsPerMinute, 600),
    runs: orElse(options.maxRunsPerSubject, 50),
    tokensPerDay: options.maxTokensPerDay ?? null,
  };
}

/** null: no limit. */
export function sessionLimit({ maxSessionsPerOwner }: LimitOptions, authenticates: boolean): number | null {
  return maxSessionsPerOwner === undefined ? (authenticates ? 10_000 : null) : maxSessionsPerOwner;
}

/** Only what is given: the transport has the defaults. */
export function transportLimits(options: LimitOptions): Partial<TransportLimits> {
  const given = {
    subscriptionsPerSocket: options.maxSubscriptionsPerSocket,
    socketsPerSubject: options.maxSocketsPerSubject,
    socketsPerAddress: options.maxSocketsPerAddress,
    messagesPerSecond: options.maxMessagesPerSecond,
    requestsPerMinute: options.maxRequestsPerMinute,
    connections: options.maxConnections,
    operations: options.maxConcurrentOperations,
    answerBytes: options.maxAnswerBytes,
    pendingAnswerBytes: options.maxPendingAnswerBytes,
    eventLoopLagMs: options.maxEventLoopLagMs,
    headersTimeoutMs: options.headersTimeoutMs,
    requestTimeoutMs: options.requestTimeoutMs,
    headerBytes: options.maxHeaderBytes,
    keepAliveTimeoutMs: options.keepAliveTimeoutMs,
    trustedProxies: options.trustProxy,
  };
  // What is left out would stand over the defaults as undefined.
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries);
}
