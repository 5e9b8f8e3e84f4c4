import { orNull, trustedProxies, whole, wholeOrNone } from "./forms.ts";
import { derived, setting, type Values } from "./setting.ts";

// How much clients may. A default is changed here, and nowhere else.

const million = 1_000_000;
const hourMs = 3_600_000;

/** Without authentication everybody is the one subject, which such a limit would bind. */
const withAuth = (limit: number) =>
  derived(`${limit} with AUTH, else 0`, ({ authenticates }) => (authenticates ? limit : null));

export const limits = {
  maxMessageChars: setting(
    "MAX_MESSAGE_CHARS",
    whole(1, 100 * million),
    100_000,
    "Length of one message, in UTF-16 units.",
  ),
  maxMessagesPerSession: setting(
    "MAX_MESSAGES_PER_SESSION",
    orNull(whole(1, 100 * million)),
    null,
    "The most messages that a session keeps: the oldest are dropped as new ones come, a tool's answers together with the reply that called it. Without it all stay.",
  ),
  maxQueuedRuns: setting("MAX_QUEUED_RUNS", whole(0, 10_000), 20, "How many replies may wait in one session."),
  maxBodyBytes: setting(
    "MAX_BODY_BYTES",
    whole(1000, 1000 * million),
    1024 * 1024,
    "The most bytes of a request's body, and of a WebSocket message.",
  ),
  maxSendsPerMinute: setting(
    "MAX_SENDS_PER_MINUTE",
    wholeOrNone(million),
    withAuth(600),
    "How often a subject may have a model called in a minute, over all gateways; 0: no limit. A retry never counts.",
  ),
  maxRunsPerSubject: setting(
    "MAX_RUNS_PER_SUBJECT",
    wholeOrNone(million),
    withAuth(50),
    "Replies of a subject that may be going or waiting at a time, over all gateways; 0: no limit.",
  ),
  maxTokensPerDay: setting(
    "MAX_TOKENS_PER_DAY",
    wholeOrNone(million * million),
    null,
    "Tokens that a subject may have used since midnight (UTC) when it sends, over all gateways; 0: no limit.",
  ),
  maxSessionsPerOwner: setting(
    "MAX_SESSIONS_PER_OWNER",
    wholeOrNone(100 * million),
    withAuth(10_000),
    "Sessions that an owner may start; 0: no limit.",
  ),
  maxTitleChars: setting("MAX_TITLE_CHARS", whole(1, million), 500, "Length of a session's title, in UTF-16 units."),
  maxMetadataBytes: setting(
    "MAX_METADATA_BYTES",
    whole(2, 100 * million),
    16_384,
    "The most bytes of a session's metadata, as JSON.",
  ),
  maxMessagesPerAdd: setting("MAX_MESSAGES_PER_ADD", whole(1, 100_000), 1000, "Messages in one addMessages."),
  approvalTimeoutSeconds: setting(
    "APPROVAL_TIMEOUT_SECONDS",
    whole(1, 100 * million),
    86_400,
    "How long an agent's run waits for somebody to approve a call of a tool. Then it is FAILED with APPROVAL_EXPIRED.",
  ),
  runPartsBytes: setting(
    "RUN_PARTS_BYTES",
    whole(0, 100 * million),
    256 * 1024,
    "Bytes of a model's reasoning, and of what an agent's tools are given and answer, that a run keeps and delivers live; the rest is left out, and Run.notes says so. 0: none at all.",
  ),
  maxSubscriptionsPerSocket: setting(
    "MAX_SUBSCRIPTIONS_PER_SOCKET",
    whole(1, million),
    500,
    "Operations in progress on one WebSocket.",
  ),
  maxSocketsPerSubject: setting(
    "MAX_SOCKETS_PER_SUBJECT",
    wholeOrNone(million),
    1000,
    "Open WebSockets and event streams of a subject, on one gateway; 0: no limit. With AUTH=none nobody is a subject.",
  ),
  maxSocketsPerAddress: setting(
    "MAX_SOCKETS_PER_ADDRESS",
    wholeOrNone(million),
    2000,
    "The same from one address (of IPv6 one /64); 0: no limit. Behind a proxy set TRUST_PROXY.",
  ),
  maxMessagesPerSecond: setting(
    "MAX_MESSAGES_PER_SECOND",
    whole(1, million),
    1000,
    "Messages and pings that are read of one WebSocket in a second; more wait in the network.",
  ),
  maxRequestsPerMinute: setting(
    "MAX_REQUESTS_PER_MINUTE",
    wholeOrNone(100 * million),
    null,
    "HTTP requests and upgrades from one address in a minute; 0: no limit.",
  ),
  maxConnections: setting(
    "MAX_CONNECTIONS",
    whole(1, million),
    50_000,
    "TCP connections; further ones are closed at once.",
  ),
  maxConcurrentOperations: setting(
    "MAX_CONCURRENT_OPERATIONS",
    whole(1, million),
    2000,
    "Operations that one gateway executes at a time (those that wait for a reply do not count); others get OVERLOADED.",
  ),
  maxAnswerBytes: setting(
    "MAX_ANSWER_BYTES",
    whole(10_000, 1000 * million),
    16 * 1024 * 1024,
    "The most bytes of the messages and other texts of one answer (or of one event), counted each time that they are selected. The field that exceeds it is TOO_COMPLEX.",
  ),
  maxPendingAnswerBytes: setting(
    "MAX_PENDING_ANSWER_BYTES",
    whole(10_000, million * million),
    256 * 1024 * 1024,
    "The most bytes of answers over HTTP that one gateway has made and their readers have not taken yet; beyond it operations get OVERLOADED.",
  ),
  maxEventLoopLagMs: setting(
    "MAX_EVENT_LOOP_LAG_MS",
    whole(20, hourMs),
    2000,
    "How late one gateway may be with its work before operations get OVERLOADED.",
  ),
  headersTimeoutMs: setting(
    "HEADERS_TIMEOUT_MS",
    whole(100, hourMs),
    10_000,
    "How long a request may take to send its headers.",
  ),
  requestTimeoutMs: setting(
    "REQUEST_TIMEOUT_MS",
    whole(100, hourMs),
    30_000,
    "How long a request may take to arrive whole.",
  ),
  maxHeaderBytes: setting("MAX_HEADER_BYTES", whole(1024, million), 16_384, "The most bytes of a request's headers."),
  // A load balancer that keeps idle connections longer than we do sends requests into one that is being closed, and
  // answers 502.
  keepAliveTimeoutMs: setting(
    "KEEP_ALIVE_TIMEOUT_MS",
    whole(100, hourMs),
    65_000,
    "How long a connection may be without a request: longer than a load balancer in front keeps it (mostly 60 s).",
  ),
  initTimeoutMs: setting(
    "CONNECTION_INIT_TIMEOUT_MS",
    whole(100, hourMs),
    3000,
    "How long a WebSocket may take to say connection_init (4408).",
  ),
  // Proxies close what is quiet for 30 to 60 s. A ping and its answer cost as much as a message to its reader.
  keepAliveMs: setting(
    "PING_INTERVAL_MS",
    whole(100, hourMs),
    25_000,
    "How often WebSockets are pinged and event streams get a comment; a WebSocket that has not answered a ping when the next one is due is closed.",
  ),
  slowReaderMs: setting(
    "SLOW_READER_MS",
    whole(100, hourMs),
    30_000,
    "How long bytes may wait for a client that reads none before its connection is closed.",
  ),
  trustProxy: setting(
    "TRUST_PROXY",
    orNull(trustedProxies),
    null,
    "Whose X-Forwarded-For is believed: how many proxies stand in front, or their addresses (10.0.0.0/8,::1). Without it no header is believed.",
  ),
};

/** What one operation may ask for: graphql/limits.ts and graphql/limits-cost.ts count. GraphiQL's introspection has 184 tokens and 15 levels. */
export const queryLimits = {
  maxTokens: setting(
    "MAX_QUERY_TOKENS",
    whole(100, million),
    3000,
    "The most tokens of a GraphQL document: words, numbers, texts, brackets.",
  ),
  maxDepth: setting(
    "MAX_QUERY_DEPTH",
    whole(1, 200),
    20,
    "How deep fields may be nested, those of fragments included. Introspection has 15.",
  ),
  maxAliases: setting("MAX_QUERY_ALIASES", whole(0, 100_000), 30, "The most aliases of a document."),
  maxDirectives: setting("MAX_QUERY_DIRECTIVES", whole(0, 100_000), 50, "The most directives of a document."),
  maxRootFields: setting(
    "MAX_QUERY_ROOT_FIELDS",
    whole(1, 100_000),
    20,
    "The most fields at the top of an operation, those of its fragments included.",
  ),
  maxDeferred: setting("MAX_QUERY_DEFERS", whole(0, 1000), 10, "The most uses of @defer in a document."),
  maxCost: setting(
    "MAX_QUERY_COST",
    whole(1, 1000 * million),
    50_000,
    "Objects and values that an answer may come to hold, page sizes multiplied. More is TOO_COMPLEX, as is a document that exceeds one of the other MAX_QUERY limits.",
  ),
};

export type Limits = Values<typeof limits>;

/** What each process counts by itself. Of several workers each has its share: together they let in no more than one does. */
export const limitsOfProcess = [
  ...(["maxSocketsPerSubject", "maxSocketsPerAddress", "maxRequestsPerMinute"] as const),
  ...(["maxConnections", "maxConcurrentOperations", "maxPendingAnswerBytes"] as const),
] as const;

type LimitsOfProcess = Pick<Limits, (typeof limitsOfProcess)[number]>;

/** What one of so many workers may let in, rounded down; null stays no limit. A share may be 0: loadConfig() refuses that. */
export function shareOf(whole: LimitsOfProcess, workers: number): LimitsOfProcess {
  const shares = limitsOfProcess.map((name) => [name, divided(whole[name], workers)] as const);
  return Object.fromEntries(shares) as LimitsOfProcess; // each by its own name
}

function divided(limit: number | null, workers: number): number | null {
  return limit === null ? null : Math.floor(limit / workers);
}
export type QueryLimits = Values<typeof queryLimits>;
