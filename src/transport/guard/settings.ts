import type { TrustedProxies } from "./address.ts";

/** What one process bears. null: as much as comes. */
export interface TransportLimits {
  /** Operations in progress on one WebSocket. */
  readonly subscriptionsPerSocket: number;
  /** Open WebSockets and event streams of one subject; `anonymous`, who is everyone, has no such limit. */
  readonly socketsPerSubject: number | null;
  /** The same from one address. */
  readonly socketsPerAddress: number | null;
  /** What is read of one WebSocket: messages and pings a second, over some seconds. Faster ones wait in the network. */
  readonly messagesPerSecond: number;
  /** HTTP requests and upgrades to the endpoint from one address within any minute or so. */
  readonly requestsPerMinute: number | null;
  /** TCP connections; further ones are closed at once. */
  readonly connections: number;
  /** Operations that are executed at a time; one that waits for a reply, and a stream that is open, is not. */
  readonly operations: number;
  /** What one answer may hold, and what may be made of answers without the network having taken it. */
  readonly answerBytes: number;
  readonly pendingAnswerBytes: number;
  /** How late the event loop may be before operations are refused. */
  readonly eventLoopLagMs: number;
  /** How long a request may take to say its headers, and to arrive whole. */
  readonly headersTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly headerBytes: number;
  /**
   * How long a connection may be without a request. A load balancer that keeps idle connections longer than we do sends
   * requests into one that is being closed, and answers 502.
   */
  readonly keepAliveTimeoutMs: number;
  /** Whose X-Forwarded-For is believed; null: nobody's. */
  readonly trustedProxies: TrustedProxies | null;
}

export const defaultTransportLimits: TransportLimits = {
  subscriptionsPerSocket: 500,
  socketsPerSubject: 1000,
  socketsPerAddress: 2000,
  messagesPerSecond: 1000,
  requestsPerMinute: null,
  connections: 50_000,
  operations: 2000,
  answerBytes: 16 * 1024 * 1024,
  pendingAnswerBytes: 256 * 1024 * 1024,
  eventLoopLagMs: 2000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  headerBytes: 16_384,
  keepAliveTimeoutMs: 65_000,
  trustedProxies: null,
};
