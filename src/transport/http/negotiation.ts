// Accept, as RFC 9110 (12.5.1) and GraphQL over HTTP have it.

/** What may be answered to who sent an Accept header. */
export interface Accepted {
  /** The media type of a single JSON result; null: no JSON. */
  readonly json: string | null;
  readonly sse: boolean;
  readonly multipart: boolean;
  /** How a subscription is streamed: null, not at all. */
  readonly subscription: typeof sseType | typeof multipartType | null;
  /** It names a type of several results: the answer may become a stream. */
  readonly streams: boolean;
}

/** Clients send few different ones, and each in all of its requests. */
const known = new Map<string | null, Accepted>();
const mostKnown = 100;
const longestKnown = 256;

export function acceptedBy(headers: { get(name: string): string | null }): Accepted {
  const accept = headers.get("accept");
  const before = known.get(accept);
  if (before !== undefined) return before;
  const accepted = negotiate(accept);
  if (known.size < mostKnown && (accept?.length ?? 0) <= longestKnown) known.set(accept, accepted);
  return accepted;
}

interface MediaRange {
  readonly type: string;
  /** How much it is wanted: 0 (not at all) to 1. */
  readonly weight: number;
  /** Whether it is Apollo's media type for the events of a subscription: only who names it can read them. */
  readonly forSubscriptions: boolean;
}

const anything: readonly MediaRange[] = [{ type: "*/*", weight: 1, forSubscriptions: false }];

/** The first is what is sent to who takes either. */
const jsonTypes = ["application/json", "application/graphql-response+json"] as const;
export const sseType = "text/event-stream";
const multipartType = "multipart/mixed";

function negotiate(accept: string | null): Accepted {
  const ranges = accept === null || accept.trim() === "" ? anything : rangesOf(accept);
  const names = (type: string) => ranges.some((range) => range.type === type && range.weight > 0);
  const takes = (type: string) => weightOf(type, ranges).weight > 0;
  // The most wanted one; of those that are wanted alike, the one that the header has first.
  const [json = null] = jsonTypes
    .map((type) => ({ type, ...weightOf(type, ranges) }))
    .filter(({ weight }) => weight > 0)
    .sort((one, other) => other.weight - one.weight || one.at - other.at);
  return {
    json: json && json.type,
    sse: takes(sseType),
    multipart: takes(multipartType),
    subscription: forSubscription(ranges),
    streams: names(sseType) || names(multipartType),
  };
}

/** The most wanted one; of those that are wanted alike, the one that the header has first. */
function forSubscription(ranges: readonly MediaRange[]): Accepted["subscription"] {
  const sse = weightOf(sseType, ranges);
  const at = ranges.findIndex(({ forSubscriptions }) => forSubscriptions);
  const weight = ranges[at]?.weight ?? 0;
  if (weight > sse.weight || (weight > 0 && weight === sse.weight && at < sse.at)) return multipartType;
  return sse.weight > 0 ? sseType : null;
}

/** What stands between commas or semicolons that are not within quotes. */
const entries = /(?:[^,"]|"[^"]*"?)+/g;
const parts = /(?:[^;"]|"[^"]*"?)+/g;

/** Results are UTF-8: who wants the type in another charset does not want it. */
function rangesOf(accept: string): readonly MediaRange[] {
  return (accept.toLowerCase().match(entries) ?? []).flatMap((entry) => {
    const [type = "", ...parameters] = (entry.match(parts) ?? []).map((part) => part.trim());
    const valueOf = (name: string) => parameters.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
    const charset = valueOf("charset") ?? "utf-8";
    if (charset !== "utf-8" && charset !== '"utf-8"') return [];
    const weight = Number(valueOf("q") ?? 1);
    const spec = valueOf("subscriptionspec");
    const forSubscriptions = type === multipartType && (spec === "1.0" || spec === '"1.0"');
    return [{ type, weight: weight >= 0 ? weight : 0, forSubscriptions }];
  });
}

/** By the range that fits it most closely; `at`: which of them that is. */
function weightOf(type: string, ranges: readonly MediaRange[]): { readonly weight: number; readonly at: number } {
  for (const range of [type, type.replace(/\/.*/, "/*"), "*/*"]) {
    const at = ranges.findIndex((one) => one.type === range);
    if (at >= 0) return { weight: ranges[at]?.weight ?? 0, at };
  }
  return { weight: 0, at: -1 };
}

/** "single": one JSON result. null: nothing that was asked for can be given. */
export type Shape = "single" | typeof sseType | typeof multipartType | null;

/**
 * A subscription streams as its client wants it; a deferred result as multipart, or SSE where only that is accepted; and
 * one result comes as JSON unless the client takes streams alone (graphql-sse runs queries so, too).
 */
export function chooseShape(accepted: Accepted, several: boolean, subscription: boolean): Shape {
  const { json, sse, multipart } = accepted;
  if (several && subscription) return accepted.subscription;
  if (several) return multipart ? multipartType : sse ? sseType : null;
  if (json !== null) return "single";
  return sse ? sseType : multipart ? multipartType : null;
}
