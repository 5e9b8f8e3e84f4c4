/** What is known of an Accept header. */
export interface Accepted {
  /** What it lists, in its order, without parameters. Absent: anything. */
  readonly types: readonly string[];
  /** It may be answered with several results. */
  readonly streams: boolean;
  /** As singleMediaType() has it. */
  readonly single: string | null;
}

/** Clients send few different ones, and each in all of its requests. */
const known = new Map<string | null, Accepted>();
const mostKnown = 100;
const longestKnown = 256;

export function acceptedBy(headers: { get(name: string): string | null }): Accepted {
  const accept = headers.get("accept");
  const before = known.get(accept);
  if (before !== undefined) return before;
  const types = acceptedTypes(accept);
  const streams = types.some((type) => type === "text/event-stream" || type === "multipart/mixed");
  const accepted = { types, streams, single: singleMediaType(accept) };
  if (known.size < mostKnown && (accept?.length ?? 0) <= longestKnown) known.set(accept, accepted);
  return accepted;
}

function acceptedTypes(accept: string | null): readonly string[] {
  if (accept === null || accept.trim() === "") return ["*/*"];
  return accept.split(",").flatMap((entry) => {
    const [type, ...parameters] = entry
      .toLowerCase()
      .split(";")
      .map((part) => part.trim());
    return type === undefined || parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter)) ? [] : [type];
  });
}

/** "single": one JSON result, in the media type that Yoga negotiates. null: nothing that was asked for can be given. */
export type Shape = "single" | "text/event-stream" | "multipart/mixed" | null;

/**
 * A subscription streams over SSE alone; a deferred result as multipart, or SSE where only that is accepted; and one
 * result comes as JSON unless the client takes streams alone (graphql-sse runs queries so, too).
 */
export function chooseShape(types: readonly string[], several: boolean, subscription: boolean): Shape {
  const accepts = (...names: readonly string[]) => names.some((name) => types.includes(name));
  const sse = accepts("text/event-stream", "text/*", "*/*");
  const multipart = accepts("multipart/mixed", "multipart/*", "*/*");
  if (several && subscription) return sse ? "text/event-stream" : null;
  if (several) return multipart ? "multipart/mixed" : sse ? "text/event-stream" : null;
  if (accepts("application/json", "application/graphql-response+json", "application/*", "*/*")) return "single";
  if (sse) return "text/event-stream";
  // Neither JSON nor a stream: Yoga answers 406 to a single result.
  return multipart ? "multipart/mixed" : "single";
}

/**
 * The media type of a single JSON result, as Yoga chooses it: the first that was asked for. null where that depends on
 * more than this function looks at, or where JSON is not what was asked for.
 */
function singleMediaType(accept: string | null): string | null {
  if (accept === null || accept === "") return "application/json";
  for (const entry of accept.replace(/\s/g, "").toLowerCase().split(",")) {
    const [type, ...parameters] = entry.split(";");
    if (parameters.some((parameter) => parameter.includes("charset=") || /^q=0(\.0*)?$/.test(parameter))) return null;
    if (type === "application/graphql-response+json" || type === "application/json") return type;
    if (type === "application/*" || type === "*/*") return "application/json";
    if (type?.startsWith("*/") === true) return null;
  }
  return null;
}
