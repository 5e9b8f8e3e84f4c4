import { randomUUID } from "node:crypto";
import { Cluster, type Redis } from "ioredis";
import type { RowTemplate } from "../../conversation/message/stored-message.ts";
import { connectClient, type Client, type RedisSource } from "../client/connection.ts";
import { guarded } from "../client/failure.ts";
import { list, text } from "../scripts/replies.ts";
import { Scripts } from "../scripts/scripts.ts";
import { sessionKeys } from "./keys.ts";
import { SessionIndex } from "./session-index.ts";
import { RedisSessionStore } from "./session-store.ts";

interface CheckpointStoreOptions {
  readonly source: RedisSource;
  readonly historyKeyPrefix: string;
  /** null: the one owner that there is without authentication. */
  readonly owner: string | null;
  /** How long checkpoints live after the last write of their thread, and sessions that begin with one; null: they stay. */
  readonly ttlSeconds: number | null;
  readonly keep: number | null;
  readonly commandTimeoutMs: number;
  readonly onError: (error: unknown) => void;
}

/** Which checkpoints: the newest of a namespace, one by its id, or all. */
interface CheckpointQuery {
  readonly threadId: string;
  /** undefined: all namespaces. */
  readonly namespace: string | undefined;
  readonly checkpointId?: string | undefined;
  readonly most: number;
  /** Behind this one (a name), as the last page ended. */
  readonly behind?: string;
}

/** What was stored, as it was given; a name is unique within its thread. */
export interface StoredCheckpoint {
  readonly name: string;
  readonly namespace: string;
  readonly checkpointId: string;
  readonly value: string;
  /** Values of channels by their names. */
  readonly channels: ReadonlyMap<string, string>;
  readonly writes: readonly { readonly taskId: string; readonly index: number; readonly value: string }[];
}

interface NewCheckpoint {
  readonly threadId: string;
  readonly namespace: string;
  readonly checkpointId: string;
  readonly parentId: string | null;
  readonly value: string;
  /** Of the channels that changed since the parent, or of all. */
  readonly channels: ReadonlyMap<string, string>;
  /** The names of the others, whose values the parent has. */
  readonly unchanged: readonly string[];
  /** No older checkpoint may go: it has what belongs to this one. */
  readonly keepAll: boolean;
  readonly messages: readonly { readonly id: string; readonly row: RowTemplate }[];
}

interface NewWrite {
  readonly index: number;
  readonly value: string;
}

/**
 * Checkpoints of LangGraph threads: a hash and an order (zset) a thread, in the slot of the session that has its id. Fields:
 * "c/<namespace>/<id>" the checkpoint, "r/…" the fields of its channels' values, "b/…/<channel>" one of these,
 * "w/…/<task>/<index>" a write that belongs to it, "m/<id>" a message that was appended to the history, "t" the history key.
 * The order has the names of checkpoints and writes. Parts of names are percent-encoded.
 */
export class CheckpointStore {
  readonly #redis: Client;
  readonly #scripts: Scripts;
  readonly #store: RedisSessionStore;
  readonly #options: CheckpointStoreOptions;

  constructor(options: CheckpointStoreOptions) {
    const { source, historyKeyPrefix, ttlSeconds, onError } = options;
    this.#options = options;
    this.#redis = connectClient(source, options);
    this.#scripts = new Scripts(this.#redis);
    this.#store = new RedisSessionStore(
      this.#redis,
      this.#scripts,
      new SessionIndex(this.#redis, historyKeyPrefix, onError),
      {
        historyKeyPrefix,
        adopts: options.owner === null,
        ttlSeconds,
        // The rest is about turns, of which it begins none.
        maxMessages: null,
        autoTitle: false,
        processId: randomUUID(),
        leaseMs: 0,
        approvalTimeoutMs: 0,
        maxQueuedRuns: 0,
        model: "",
        memory: { strategy: "BUFFER", maxTurns: null, maxTokens: null },
        memoryRows: 0,
        quotas: null,
        durable: null,
        onTurnFree: () => undefined,
        onStarted: () => undefined,
      },
    );
  }

  historyKey(threadId: string): string {
    return this.#store.historyKey(threadId);
  }

  /** false: the parent is gone, so the values of all channels are needed. */
  put(owner: string, given: NewCheckpoint): Promise<boolean> {
    const { ttlSeconds, keep } = this.#options;
    const name = nameOf(given.namespace, given.checkpointId);
    const { parentId } = given;
    return this.#store.checkpoint(owner, given.threadId, {
      name,
      keep: given.keepAll ? null : keep,
      livesMs: ttlSeconds === null ? null : ttlSeconds * 1000,
      parent: parentId === null || given.unchanged.length === 0 ? null : nameOf(given.namespace, parentId),
      unchanged: given.unchanged.map(encoded),
      fields: [
        [`c/${name}`, given.value],
        ...[...given.channels].map(([channel, value]) => [`b/${name}/${encoded(channel)}`, value] as const),
      ],
      messages: given.messages,
    });
  }

  /** A write of a task is stored once; those below 0 (errors, interrupts, …) replace the one before. */
  async putWrites(
    threadId: string,
    namespace: string,
    checkpointId: string,
    taskId: string,
    writes: readonly NewWrite[],
  ): Promise<void> {
    const historyKey = this.historyKey(threadId);
    const { ttlSeconds } = this.#options;
    const named = writes.flatMap(({ index, value }) => {
      return [`w/${nameOf(namespace, checkpointId)}/${encoded(taskId)}/${index}`, value];
    });
    await guarded(
      this.#scripts.call("checkpoint-writes", sessionKeys(historyKey).checkpoints, {
        historyKey,
        lives: ttlSeconds === null ? "" : ttlSeconds * 1000,
        writes: named,
      }),
    );
  }

  async read(query: CheckpointQuery): Promise<readonly StoredCheckpoint[]> {
    const { threadId, namespace, checkpointId, most, behind } = query;
    const all = namespace === undefined ? "c" : `c/${encoded(namespace)}`;
    const one = checkpointId === undefined || namespace === undefined ? null : nameOf(namespace, checkpointId);
    const answer = await guarded(
      this.#scripts.call("checkpoints", sessionKeys(this.historyKey(threadId)).checkpoints, {
        // "0" comes behind "/": all that begins with it lies in between.
        from: one !== null ? `[c/${one}` : behind === undefined ? `(${all}0` : `(c/${behind}`,
        to: one !== null ? `[c/${one}` : `[${all}/`,
        most,
      }),
    );
    return answer.found.map((found) => {
      const [name, value, channels, writes] = list(found);
      return storedCheckpoint(text(name), text(value), list(channels).map(text), list(writes).map(text));
    });
  }

  /** Which of these messages the thread has appended to its history. */
  async appended(threadId: string, ids: readonly string[]): Promise<ReadonlySet<string>> {
    if (ids.length === 0) return new Set();
    const [data] = sessionKeys(this.historyKey(threadId)).checkpoints;
    const found = await guarded(this.#redis.hmget(data, ...ids.map((id) => `m/${id}`)));
    return new Set(ids.filter((_id, i) => found[i] !== null));
  }

  async remove(threadId: string): Promise<void> {
    await guarded(this.#redis.del(...sessionKeys(this.historyKey(threadId)).checkpoints));
  }

  /** All threads, by SCAN over all keys: there is no list of them. */
  async *threads(): AsyncGenerator<string> {
    for (const redis of await this.#primaries()) {
      let cursor = "0";
      do {
        const scan = redis.scan(cursor, "MATCH", "parley:{*}:checkpoints:*", "COUNT", 1000, "TYPE", "hash");
        const [next, keys] = await guarded(scan);
        cursor = next;
        const historyKeys = await guarded(Promise.all(keys.map((key) => redis.hget(key, "t"))));
        for (const historyKey of historyKeys) {
          const threadId = historyKey === null ? null : this.#store.sessionIdOf(historyKey);
          if (threadId !== null) yield threadId;
        }
      } while (cursor !== "0");
    }
  }

  async close(): Promise<void> {
    if (this.#redis.status === "ready") await this.#redis.quit().catch(this.#options.onError);
    this.#redis.disconnect();
  }

  async #primaries(): Promise<readonly Redis[]> {
    if (!(this.#redis instanceof Cluster)) return [this.#redis];
    // Until it has answered once, a cluster's client does not know who they are.
    await guarded(this.#redis.ping());
    return this.#redis.nodes("master");
  }
}

function storedCheckpoint(
  name: string,
  value: string,
  channels: readonly string[],
  writes: readonly string[],
): StoredCheckpoint {
  const [namespace = "", checkpointId = ""] = name.split("/").map(decodeURIComponent);
  return {
    name,
    namespace,
    checkpointId,
    value,
    channels: new Map(pairsOf(channels).map(([field, stored]) => [decoded(field.split("/").at(-1)), stored])),
    writes: pairsOf(writes).map(([field, stored]) => {
      const [taskId, index] = field.split("/").slice(-2);
      return { taskId: decoded(taskId), index: Number(index), value: stored };
    }),
  };
}

function pairsOf(flat: readonly string[]): readonly (readonly [string, string])[] {
  return flat.flatMap((one, i) => (i % 2 === 0 ? [[one, flat[i + 1] ?? ""] as const] : []));
}

function nameOf(namespace: string, checkpointId: string): string {
  return `${encoded(namespace)}/${encoded(checkpointId)}`;
}

function encoded(part: string): string {
  return encodeURIComponent(part.toWellFormed());
}

function decoded(part = ""): string {
  return decodeURIComponent(part);
}
