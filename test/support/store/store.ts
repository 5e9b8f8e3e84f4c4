import { randomUUID } from "node:crypto";
import type { Redis, RedisOptions } from "ioredis";
import type { WhenBusy } from "../../../src/conversation/conversations/api.ts";
import type { Cursor } from "../../../src/conversation/message/cursor.ts";
import { sessionTag, uuidv7 } from "../../../src/conversation/message/ids.ts";
import type { NewMessage, TokenUsage } from "../../../src/conversation/message/message.ts";
import type {
  AppendMessage,
  BeginTurn,
  NewRecord,
  Op,
  StartedTurn,
  TurnEnd,
} from "../../../src/conversation/ports/store.ts";
import {
  templateOfMessage,
  templateOfPartial,
  templateOfReply,
} from "../../../src/conversation/message/stored-message.ts";
import {
  connectClient,
  connectRedis,
  type Client,
  type ConnectionSettings,
  type RedisSource,
} from "../../../src/redis/client/connection.ts";
import { sessionKeys } from "../../../src/redis/store/keys.ts";
import type { Reply, ScriptName } from "../../../src/redis/scripts/contracts.ts";
import { Scripts, type ScriptCall } from "../../../src/redis/scripts/scripts.ts";
import type { StoreSettings } from "../../../src/redis/scripts/session-calls.ts";
import { SessionIndex } from "../../../src/redis/store/session-index.ts";
import { RedisSessionStore } from "../../../src/redis/store/session-store.ts";

interface Answered extends ScriptCall {
  readonly answer: Promise<readonly Reply[]>;
}

/** Scripts that remember the last call of each, so that a test can send exactly that again. */
export class WatchedScripts extends Scripts {
  readonly last = new Map<ScriptName, Answered>();
  beforeRun: (name: ScriptName) => void = () => undefined;

  override run(call: ScriptCall): Promise<readonly Reply[]> {
    this.beforeRun(call.name);
    const answer = super.run(call);
    this.last.set(call.name, { ...call, answer });
    return answer;
  }

  again(call: ScriptCall): Promise<readonly Reply[]> {
    return super.run(call);
  }
}

/** A store of one process, as the gateway puts it together. */
export interface TestStore<Connection extends Client = Redis> {
  readonly store: RedisSessionStore;
  readonly scripts: WatchedScripts;
  readonly redis: Connection;
  readonly processId: string;
  /** History keys whose turn was told to be free for this process. */
  readonly freed: string[];
  /** What the index could not write. */
  readonly indexErrors: unknown[];
  close(): void;
}

export interface StoreOptions extends Partial<StoreSettings> {
  readonly commandTimeoutMs?: number;
  /** The index writes over a connection of its own, to this port: then the store's holds the scripts alone. */
  readonly indexPort?: number;
  readonly connection?: RedisOptions;
}

export const owner = "anonymous";

const connection = (commandTimeoutMs = 10_000): ConnectionSettings => ({
  commandTimeoutMs,
  // A connection that a test cuts says so; what it does to a call is what the test looks at.
  onError: () => undefined,
});

export function openStore(port: number, options: StoreOptions = {}): TestStore {
  const { commandTimeoutMs, indexPort, connection: more = {}, ...settings } = options;
  const to = (at: number) => {
    const source = { kind: "options", options: { host: "127.0.0.1", port: at, ...more } } as const;
    return connectRedis(source, connection(commandTimeoutMs), "commands");
  };
  const redis = to(port);
  return storeOver(redis, indexPort === undefined ? redis : to(indexPort), settings);
}

/** The same, whatever the shape of Redis. */
export function openStoreOn(source: RedisSource, settings: Partial<StoreSettings> = {}): TestStore<Client> {
  const redis = connectClient(source, connection());
  return storeOver(redis, redis, settings);
}

function storeOver<Connection extends Client>(
  redis: Connection,
  indexRedis: Connection,
  settings: Partial<StoreSettings>,
): TestStore<Connection> {
  const scripts = new WatchedScripts(redis);
  const processId = settings.processId ?? randomUUID();
  const freed: string[] = [];
  const indexErrors: unknown[] = [];
  const index = new SessionIndex(indexRedis, settings.historyKeyPrefix ?? "", (error) => indexErrors.push(error));
  const store = new RedisSessionStore(redis, scripts, index, {
    historyKeyPrefix: "",
    adopts: true,
    ttlSeconds: null,
    autoTitle: true,
    leaseMs: 60_000,
    approvalTimeoutMs: 60_000,
    maxQueuedRuns: 20,
    maxMessages: null,
    model: "offline",
    memory: { strategy: "BUFFER", maxTurns: null, maxTokens: null },
    memoryRows: 200,
    quotas: null,
    durable: null,
    onTurnFree: (key) => freed.push(key),
    onStarted: () => undefined,
    ...settings,
    processId,
  });
  const close = () => {
    redis.disconnect();
    indexRedis.disconnect();
  };
  return { store, scripts, redis, processId, freed, indexErrors, close };
}

export interface TurnOptions {
  readonly op?: Op;
  readonly replaceFrom?: Cursor | null;
  readonly whenBusy?: WhenBusy;
}

/** `text` null: a regenerated reply. */
export function newTurn(sessionId: string, text: string | null, options: TurnOptions = {}): BeginTurn {
  const { replaceFrom = null, whenBusy = "QUEUE" } = options;
  const now = Date.now();
  const runId = uuidv7(now);
  const replyMessageId = uuidv7(now);
  const note = { session: sessionTag(sessionId), runId, hint: 0, createdAt: now };
  const inputId = text === null ? null : { messageId: uuidv7(now), chosen: false };
  return {
    op: options.op ?? newOp(),
    runId,
    model: null,
    input: text === null || !inputId ? null : templateOfMessage(plainMessage("USER", text), inputId.messageId, note),
    inputId,
    partial: templateOfPartial(replyMessageId, note),
    replyMessageId,
    replaceFrom,
    whenBusy,
  };
}

export function completed(turn: StartedTurn, text: string, usage: TokenUsage | null = null): TurnEnd {
  const { replyMessageId, replyHint } = turn.state;
  const note = { session: sessionTag(turn.historyKey), runId: turn.runId, hint: replyHint, createdAt: Date.now() };
  return { kind: "completed", reply: templateOfReply({ content: text }, replyMessageId, note), text, usage };
}

export function failed(text: string): TurnEnd {
  return { kind: "failed", text, error: { code: "MODEL_TIMEOUT", message: "Too slow.", retryable: true } };
}

/** `messageId` null: one that the gateway makes. */
export function newMessage(sessionId: string, role: "USER" | "ASSISTANT", text: string, op: Op | null): AppendMessage {
  const now = Date.now();
  const messageId = op === null ? uuidv7(now) : op.id.replace(/^m:/, "");
  const note = { session: sessionTag(sessionId), runId: null, hint: op === null ? 0 : null, createdAt: now };
  return { op, row: templateOfMessage(plainMessage(role, text), messageId, note) };
}

export function newOp(fingerprint = "f"): Op {
  return { id: `k:${randomUUID()}`, fingerprint };
}

export function newRecord(title: string | null, ttlSeconds?: number | null): NewRecord {
  return { title, instructions: null, model: null, memory: null, metadata: null, ttlSeconds };
}

function plainMessage(role: NewMessage["role"], text: string): NewMessage {
  const nothing = { name: null, messageId: null, toolCallId: null, toolFailed: null, toolCalls: [] };
  return { role, content: [{ kind: "text", text }], ...nothing };
}

/** A row as LangChain JS writes it. */
export function foreignRow(text: string, type = "human"): string {
  return JSON.stringify({ type, data: { content: text, additional_kwargs: {}, response_metadata: {} } });
}

/** Everything in this Redis by key, whole, without how long it lives. `except`: keys that may change. */
export async function contents(redis: Redis, except: RegExp = /^$/): Promise<Readonly<Record<string, unknown>>> {
  const keys = (await redis.keys("*")).filter((key) => !except.test(key)).sort();
  // Not DUMP: it shows in which order a hash table happens to lie.
  return Object.fromEntries(await Promise.all(keys.map(async (key) => [key, await contentOf(redis, key)] as const)));
}

async function contentOf(redis: Redis, key: string): Promise<unknown> {
  switch (await redis.type(key)) {
    case "string":
      return redis.get(key);
    case "list":
      return redis.lrange(key, 0, -1);
    case "hash":
      return new Map(Object.entries(await redis.hgetall(key)).sort());
    case "zset":
      return redis.zrange(key, 0, "-1", "WITHSCORES");
    case "set":
      return new Set(await redis.smembers(key));
    default:
      return redis.dump(key);
  }
}

/** The gateway's own keys of a session by their part, with the history as `history`. */
export function keysByPart(historyKey: string): Readonly<Record<string, string>> {
  const parts = ["history", "session", "runs", "partial", "queue", "ops", "ops-due"];
  const { all } = sessionKeys(historyKey);
  return Object.fromEntries(parts.map((part, i) => [part, all[i] ?? ""]));
}

/** The first of what must not be empty. */
export function must<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new TypeError("Expected a value");
  return value;
}
