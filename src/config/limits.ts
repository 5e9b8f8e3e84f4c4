import { isIP } from "node:net";

import { z } from "zod";

import { integer, list, variable } from "./values.ts";
import type { Definition } from "./values.ts";

/** How much clients may. null: as much as they like; what is not given has the gateway's default. */
export interface LimitConfig {
  readonly maxSendsPerMinute?: number | null;
  readonly maxRunsPerSubject?: number | null;
  readonly maxTokensPerDay?: number | null;
  readonly maxSessionsPerOwner?: number | null;
  readonly maxTitleChars?: number;
  readonly maxMetadataBytes?: number;
  readonly maxMessagesPerAdd?: number;
  readonly maxSubscriptionsPerSocket?: number;
  readonly maxSocketsPerSubject?: number | null;
  readonly maxSocketsPerAddress?: number | null;
  readonly maxMessagesPerSecond?: number;
  readonly maxRequestsPerMinute?: number | null;
  readonly maxConnections?: number;
  readonly maxConcurrentOperations?: number;
  readonly maxAnswerBytes?: number;
  readonly maxPendingAnswerBytes?: number;
  readonly maxEventLoopLagMs?: number;
  readonly headersTimeoutMs?: number;
  readonly requestTimeoutMs?: number;
  readonly maxHeaderBytes?: number;
  readonly keepAliveTimeoutMs?: number;
  readonly initTimeoutMs?: number;
  readonly keepAliveMs?: number;
  readonly slowReaderMs?: number;
  readonly trustProxy?: number | readonly string[];
}

const orNone = (most: number) => integer(0, most).transform((value) => (value === 0 ? null : value));
const million = 1_000_000;
const hour = 3_600_000;

const trustForm = "must be how many proxies stand in front, or their addresses and networks such as 10.0.0.0/8";
const trustedProxies: z.ZodType<number | readonly string[], string> = z.union(
  [integer(0, 20), list.refine((networks) => networks.length > 0 && networks.every(isNetwork), trustForm)],
  { error: () => trustForm },
);

export const limitDefinitions = {
  MAX_SENDS_PER_MINUTE: variable(
    orNone(million),
    "600 with AUTH, else 0",
    "How often a subject may have a model called in a minute, over all gateways; 0: no limit. A retry never counts.",
  ),
  MAX_RUNS_PER_SUBJECT: variable(
    orNone(million),
    "50 with AUTH, else 0",
    "Replies of a subject that may be going or waiting at a time, over all gateways; 0: no limit.",
  ),
  MAX_TOKENS_PER_DAY: variable(
    orNone(1_000_000_000_000),
    "0",
    "Tokens that a subject may have used since midnight (UTC) when it sends, over all gateways; 0: no limit.",
  ),
  MAX_SESSIONS_PER_OWNER: variable(
    orNone(100 * million),
    "10000 with AUTH, else 0",
    "Sessions that an owner may start; 0: no limit.",
  ),
  MAX_TITLE_CHARS: variable(integer(1, million), "500", "Length of a session's title, in UTF-16 units."),
  MAX_METADATA_BYTES: variable(integer(2, 100 * million), "16384", "Of a session's metadata, as JSON."),
  MAX_MESSAGES_PER_ADD: variable(integer(1, 100_000), "1000", "Messages in one addMessages."),
  MAX_SUBSCRIPTIONS_PER_SOCKET: variable(integer(1, million), "500", "Operations in progress on one WebSocket."),
  MAX_SOCKETS_PER_SUBJECT: variable(
    orNone(million),
    "1000",
    "Open WebSockets and event streams of a subject, on one gateway; 0: no limit. With AUTH=none nobody is a subject.",
  ),
  MAX_SOCKETS_PER_ADDRESS: variable(
    orNone(million),
    "2000",
    "The same from one address (of IPv6 one /64); 0: no limit. Behind a proxy set TRUST_PROXY.",
  ),
  MAX_MESSAGES_PER_SECOND: variable(
    integer(1, million),
    "1000",
    "Messages and pings that are read of one WebSocket in a second; more wait in the network.",
  ),
  MAX_REQUESTS_PER_MINUTE: variable(
    orNone(100 * million),
    "0",
    "HTTP requests and upgrades from one address in a minute; 0: no limit.",
  ),
  MAX_CONNECTIONS: variable(integer(1, million), "50000", "TCP connections; further ones are closed at once."),
  MAX_CONCURRENT_OPERATIONS: variable(
    integer(1, million),
    "2000",
    "Operations that one gateway executes at a time (those that wait for a reply do not count); others get OVERLOADED.",
  ),
  MAX_ANSWER_BYTES: variable(
    integer(10_000, 1000 * million),
    "16777216",
    "Of the messages and other texts of one answer (or of one event), each time that they are asked for. The field beyond it is TOO_COMPLEX.",
  ),
  MAX_PENDING_ANSWER_BYTES: variable(
    integer(10_000, 1_000_000 * million),
    "268435456",
    "Of answers over HTTP that one gateway has made and their readers have not taken; beyond it operations get OVERLOADED.",
  ),
  MAX_EVENT_LOOP_LAG_MS: variable(
    integer(20, hour),
    "2000",
    "How late one gateway may be with its work before operations get OVERLOADED.",
  ),
  HEADERS_TIMEOUT_MS: variable(integer(100, hour), "10000", "How long a request may take to send its headers."),
  REQUEST_TIMEOUT_MS: variable(integer(100, hour), "30000", "How long a request may take to arrive whole."),
  MAX_HEADER_BYTES: variable(integer(1024, million), "16384", "Of a request's headers."),
  KEEP_ALIVE_TIMEOUT_MS: variable(
    integer(100, hour),
    "65000",
    "How long a connection may be without a request: longer than a load balancer in front keeps it (mostly 60 s).",
  ),
  CONNECTION_INIT_TIMEOUT_MS: variable(
    integer(100, hour),
    "3000",
    "How long a WebSocket may take to say connection_init (4408).",
  ),
  PING_INTERVAL_MS: variable(
    integer(100, hour),
    "12000",
    "How often WebSockets are pinged and event streams get a comment; a ping unanswered until the next cuts off.",
  ),
  SLOW_READER_MS: variable(
    integer(100, hour),
    "30000",
    "How long bytes may wait for a reader that takes none before it is cut off.",
  ),
  TRUST_PROXY: variable(
    trustedProxies,
    null,
    "Whose X-Forwarded-For is believed: how many proxies stand in front, or their addresses (10.0.0.0/8,::1). Without it nobody's.",
  ),
} as const;

type Name = keyof typeof limitDefinitions;

/** How one variable is read: null where it is left out, or wrong (which is told already). */
type ReadVariable = <Value>(name: Name, definition: Definition<Value>) => Value | null;

const optionOf: Readonly<Record<Name, keyof LimitConfig>> = {
  MAX_SENDS_PER_MINUTE: "maxSendsPerMinute",
  MAX_RUNS_PER_SUBJECT: "maxRunsPerSubject",
  MAX_TOKENS_PER_DAY: "maxTokensPerDay",
  MAX_SESSIONS_PER_OWNER: "maxSessionsPerOwner",
  MAX_TITLE_CHARS: "maxTitleChars",
  MAX_METADATA_BYTES: "maxMetadataBytes",
  MAX_MESSAGES_PER_ADD: "maxMessagesPerAdd",
  MAX_SUBSCRIPTIONS_PER_SOCKET: "maxSubscriptionsPerSocket",
  MAX_SOCKETS_PER_SUBJECT: "maxSocketsPerSubject",
  MAX_SOCKETS_PER_ADDRESS: "maxSocketsPerAddress",
  MAX_MESSAGES_PER_SECOND: "maxMessagesPerSecond",
  MAX_REQUESTS_PER_MINUTE: "maxRequestsPerMinute",
  MAX_CONNECTIONS: "maxConnections",
  MAX_CONCURRENT_OPERATIONS: "maxConcurrentOperations",
  MAX_ANSWER_BYTES: "maxAnswerBytes",
  MAX_PENDING_ANSWER_BYTES: "maxPendingAnswerBytes",
  MAX_EVENT_LOOP_LAG_MS: "maxEventLoopLagMs",
  HEADERS_TIMEOUT_MS: "headersTimeoutMs",
  REQUEST_TIMEOUT_MS: "requestTimeoutMs",
  MAX_HEADER_BYTES: "maxHeaderBytes",
  KEEP_ALIVE_TIMEOUT_MS: "keepAliveTimeoutMs",
  CONNECTION_INIT_TIMEOUT_MS: "initTimeoutMs",
  PING_INTERVAL_MS: "keepAliveMs",
  SLOW_READER_MS: "slowReaderMs",
  TRUST_PROXY: "trustProxy",
};

/** Only what is given: whether there is authentication, which some defaults hang on, the gateway knows. */
export function limitConfig(given: ReadVariable, isGiven: (name: Name) => boolean): LimitConfig {
  const names = Object.keys(limitDefinitions) as Name[]; // the keys of the table above
  const values = names.filter(isGiven).map((name) => {
    const definition: Definition<unknown> = limitDefinitions[name];
    return [optionOf[name], given(name, definition)] as const;
  });
  return Object.fromEntries(values);
}

function isNetwork(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 6 ? 128 : 32));
}
