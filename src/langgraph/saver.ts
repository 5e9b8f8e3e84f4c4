import {
  BaseCheckpointSaver,
  compareWritesSortKeys,
  getCheckpointId,
  maxChannelVersion,
  TASKS,
  WRITES_IDX_MAP,
  writesSortKey,
} from "@langchain/langgraph-checkpoint";
import type {
  ChannelVersions,
  Checkpoint,
  CheckpointListOptions,
  CheckpointMetadata,
  CheckpointPendingWrite,
  CheckpointTuple,
  PendingWrite,
  SerializerProtocol,
} from "@langchain/langgraph-checkpoint";

import { historyKeyProblem } from "../conversation/conversations/access.ts";
import { isObject } from "../conversation/message/json.ts";
import { anonymous } from "../conversation/session.ts";
import { redisSourceOf, type GatewayOptions } from "../options.ts";
import { keyPrefixOf } from "../redis/client/connection.ts";
import { CheckpointStore, type StoredCheckpoint } from "../redis/store/checkpoints.ts";
import { finishedMessages, rowOf } from "./finished.ts";

type Config = Parameters<BaseCheckpointSaver["getTuple"]>[0];

export interface CheckpointSaverOptions {
  /** As createGateway takes it: a URL, ioredis' options, an ioredis client, or a cluster's nodes. No Redis modules are needed. */
  readonly redis: Exclude<GatewayOptions["redis"], { readonly embedded: unknown }>;
  /** The gateway's: what comes before the thread's id in its history's key. Default "". */
  readonly historyKeyPrefix?: string;
  /** Checkpoints go so long after the last write of their thread, and sessions that begin with one, too. Default null: they stay. */
  readonly ttlSeconds?: number | null;
  /** How many checkpoints of a thread stay, the newest ones. Default null: all. */
  readonly keep?: number | null;
  /** The channel whose messages are written to the history, where Parley and LangChain find them. null: none. Default "messages". */
  readonly messages?: string | null;
  /** With authentication: whose sessions those are that begin with a thread. */
  readonly owner?: string;
  readonly commandTimeoutMs?: number;
  /** Called with what fails beside a call. Default: nothing is done. */
  readonly onError?: (error: unknown) => void;
  readonly serde?: SerializerProtocol;
}

interface StoredValue {
  readonly checkpoint: string;
  readonly metadata: string;
  readonly parent: string | null;
}

interface Place {
  readonly threadId: string;
  readonly namespace: string;
}

const pageSize = 20;

/** By name: one that is not here is a slip of the pen, and what was meant by it would not hold. */
const optionNames: { readonly [Name in keyof Required<CheckpointSaverOptions>]: true } = {
  redis: true,
  historyKeyPrefix: true,
  ttlSeconds: true,
  keep: true,
  messages: true,
  owner: true,
  commandTimeoutMs: true,
  onError: true,
  serde: true,
};

/**
 * A LangGraph checkpointer on plain Redis or Valkey. A thread's id is the id of its session in Parley: messages that are
 * finished are appended to its history in the same write as the checkpoint that has them.
 */
export class CheckpointSaver extends BaseCheckpointSaver {
  readonly #store: CheckpointStore;
  readonly #owner: string;
  readonly #messages: string | null;

  /** @throws {TypeError} with every option that is wrong */
  constructor(options: CheckpointSaverOptions) {
    super(options.serde);
    const problems = problemsOf(options);
    if (problems.length > 0) throw new TypeError(`CheckpointSaver's options have mistakes: ${problems.join("; ")}.`);
    const { historyKeyPrefix = "", ttlSeconds = null, keep = null, messages = "messages", owner } = options;
    const { commandTimeoutMs = 5000, onError = () => undefined } = options;
    const source = redisSourceOf(options.redis, null);
    const prefix = keyPrefixOf(source) + historyKeyPrefix;
    const limits = { ttlSeconds, keep, commandTimeoutMs, onError };
    this.#store = new CheckpointStore({ source, historyKeyPrefix: prefix, owner: owner ?? null, ...limits });
    this.#owner = owner ?? anonymous.subject;
    this.#messages = messages;
  }

  override async getTuple(config: Config): Promise<CheckpointTuple | undefined> {
    // As LangGraph's own savers have it.
    if (objectOf(config.configurable)["thread_id"] === undefined) return undefined;
    const place = this.#placeOf(config, "read");
    const checkpointId = getCheckpointId(config) || undefined;
    const [stored] = await this.#store.read({ ...place, checkpointId, most: 1 });
    return stored && (await this.#tupleOf(place.threadId, stored));
  }

  override async *list(config: Config, options: CheckpointListOptions = {}): AsyncGenerator<CheckpointTuple> {
    const { before, filter = {} } = options;
    const given = objectOf(config.configurable);
    const beforeId = before && getCheckpointId(before);
    const namespace = given["checkpoint_ns"] === undefined ? undefined : this.#placeOf(config, "list", false).namespace;
    const only = getCheckpointId(config);
    let left = options.limit ?? Infinity;
    const threads = given["thread_id"] === undefined ? this.#store.threads() : [this.#placeOf(config, "list").threadId];
    for await (const threadId of threads) {
      for await (const stored of this.#storedOf(threadId, namespace)) {
        if (left <= 0) return;
        if ((only && stored.checkpointId !== only) || (beforeId && stored.checkpointId >= beforeId)) continue;
        const tuple = await this.#tupleOf(threadId, stored);
        const metadata = objectOf(tuple.metadata);
        if (!Object.entries(filter).every(([key, value]) => metadata[key] === value)) continue;
        left -= 1;
        yield tuple;
      }
    }
  }

  override async put(
    config: Config,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    newVersions: ChannelVersions,
  ): Promise<Config> {
    const { threadId, namespace } = this.#placeOf(config, "store");
    const { channel_values, ...rest } = checkpoint;
    const parent = getCheckpointId(config) || null;
    const value: StoredValue = { checkpoint: await this.#dump(rest), metadata: await this.#dump(metadata), parent };
    const isRoot = namespace === "";
    const store = async (isGiven: (channel: string) => boolean) => {
      const channels = new Map<string, string>();
      for (const [channel, held] of Object.entries(channel_values)) {
        if (isGiven(channel)) channels.set(channel, await this.#dump(held));
      }
      return await this.#store.put(this.#owner, {
        threadId,
        namespace,
        checkpointId: checkpoint.id,
        parentId: parent,
        value: JSON.stringify(value),
        channels,
        unchanged: Object.keys(channel_values).filter((channel) => !isGiven(channel)),
        // A delta channel is made of the writes that belong to older checkpoints.
        keepAll: metadata.counters_since_delta_snapshot !== undefined,
        messages: isRoot ? await this.#unwritten(threadId, channels.keys(), channel_values) : [],
      });
    };
    const whole = await store((channel) => channel in newVersions);
    if (!whole && !(await store(() => true))) throw new Error("A checkpoint that has all values needs no parent.");
    return configOf(threadId, namespace, checkpoint.id);
  }

  override async putWrites(config: Config, writes: PendingWrite[], taskId: string, taskPath = ""): Promise<void> {
    const { threadId, namespace } = this.#placeOf(config, "store writes of");
    const checkpointId = getCheckpointId(config);
    if (!checkpointId)
      throw new TypeError("A config without configurable.checkpoint_id names no checkpoint that writes belong to.");
    const stored = await Promise.all(
      writes.map(async ([channel, value], index) => ({
        index: WRITES_IDX_MAP[channel] ?? index,
        value: JSON.stringify([channel, taskPath, await this.#dump(value)]),
      })),
    );
    if (stored.length > 0) await this.#store.putWrites(threadId, namespace, checkpointId, taskId, stored);
  }

  /** The thread's checkpoints alone: its history stays. Parley's deleteSession takes both. */
  override async deleteThread(threadId: string): Promise<void> {
    await this.#store.remove(this.#placeOf(configOf(threadId, "", ""), "delete").threadId);
  }

  /** Ends the connection, when what was asked for is answered. */
  close(): Promise<void> {
    return this.#store.close();
  }

  async *#storedOf(threadId: string, namespace: string | undefined): AsyncGenerator<StoredCheckpoint> {
    let behind: string | null = null;
    for (;;) {
      const from: { readonly behind?: string } = behind === null ? {} : { behind };
      const page = await this.#store.read({ threadId, namespace, most: pageSize, ...from });
      yield* page;
      if (page.length < pageSize) return;
      behind = page.at(-1)?.name ?? null;
    }
  }

  async #tupleOf(threadId: string, stored: StoredCheckpoint): Promise<CheckpointTuple> {
    const value = JSON.parse(stored.value) as StoredValue; // as put() has written it
    const { namespace, checkpointId } = stored;
    const checkpoint = await this.#checkpointOf(threadId, stored, value);
    return {
      config: configOf(threadId, namespace, checkpointId),
      checkpoint,
      metadata: (await this.#load(value.metadata)) as CheckpointMetadata, // as it was given to put()
      pendingWrites: await this.#writesOf(stored),
      ...(value.parent === null ? {} : { parentConfig: configOf(threadId, namespace, value.parent) }),
    };
  }

  async #checkpointOf(threadId: string, stored: StoredCheckpoint, value: StoredValue): Promise<Checkpoint> {
    const channel_values: Record<string, unknown> = {};
    for (const [channel, held] of stored.channels) channel_values[channel] = await this.#load(held);
    const rest = (await this.#load(value.checkpoint)) as Omit<Checkpoint, "channel_values">; // as it was given to put()
    const checkpoint: Checkpoint = { ...rest, channel_values };
    if (checkpoint.v >= 4 || value.parent === null) return checkpoint;
    // LangGraph kept what its nodes send beside the parent, then.
    const [parent] = await this.#store.read({
      threadId,
      namespace: stored.namespace,
      checkpointId: value.parent,
      most: 1,
    });
    const writes = parent === undefined ? [] : await this.#writesOf(parent);
    checkpoint.channel_values[TASKS] = writes.flatMap(([, channel, sent]) => (channel === TASKS ? [sent] : []));
    const versions = Object.values(checkpoint.channel_versions);
    const version = versions.length > 0 ? maxChannelVersion(...versions) : this.getNextVersion(undefined);
    checkpoint.channel_versions = { ...checkpoint.channel_versions, [TASKS]: version };
    return checkpoint;
  }

  async #writesOf({ writes }: StoredCheckpoint): Promise<CheckpointPendingWrite[]> {
    const read = writes.map(({ taskId, index, value }) => {
      const [channel, path, held] = JSON.parse(value) as [string, string, string]; // as putWrites() has written it
      return { key: writesSortKey(path, taskId, index), taskId, channel, held };
    });
    read.sort((a, b) => compareWritesSortKeys(a.key, b.key));
    return await Promise.all(
      read.map(async ({ taskId, channel, held }): Promise<CheckpointPendingWrite> => [
        taskId,
        channel,
        await this.#load(held),
      ]),
    );
  }

  /** Rows of finished messages that the history lacks, where the channel of messages has changed. */
  async #unwritten(threadId: string, changed: Iterable<string>, values: Readonly<Record<string, unknown>>) {
    const held = this.#messages === null ? undefined : values[this.#messages];
    if (this.#messages === null || !Array.isArray(held) || ![...changed].includes(this.#messages)) return [];
    const historyKey = this.#store.historyKey(threadId);
    const finished = finishedMessages(historyKey, held);
    const known = await this.#store.appended(
      threadId,
      finished.map(({ id }) => id),
    );
    const now = Date.now();
    return finished
      .filter(({ id }) => !known.has(id))
      .map((message) => ({ id: message.id, row: rowOf(historyKey, message, now) }));
  }

  #placeOf(config: Config, purpose: string, needsThread = true): Place {
    const { thread_id: threadId = "", checkpoint_ns: namespace = "" } = objectOf(config.configurable);
    if (typeof namespace !== "string") throw new TypeError("configurable.checkpoint_ns must be a text.");
    if (typeof threadId !== "string" || (threadId === "" && needsThread)) {
      throw new TypeError(`A checkpointer needs configurable.thread_id, a text, to ${purpose} checkpoints.`);
    }
    const problem = needsThread ? historyKeyProblem(this.#store.historyKey(threadId)) : null;
    if (problem !== null) throw new TypeError(`configurable.thread_id ${problem}, since it names a session.`);
    return { threadId, namespace };
  }

  /** Its serializer's type in the first line; what is no text is written in base64. */
  async #dump(value: unknown): Promise<string> {
    const [type, bytes] = await this.serde.dumpsTyped(value);
    return `${type}\n${Buffer.from(bytes).toString(type === "json" ? "utf8" : "base64")}`;
  }

  async #load(stored: string): Promise<unknown> {
    const end = stored.indexOf("\n");
    const type = stored.slice(0, end);
    const held = stored.slice(end + 1);
    return await this.serde.loadsTyped(type, type === "json" ? held : Buffer.from(held, "base64"));
  }
}

function configOf(thread_id: string, checkpoint_ns: string, checkpoint_id: string) {
  return { configurable: { thread_id, checkpoint_ns, checkpoint_id } };
}

function objectOf(value: object | undefined): Readonly<Record<string, unknown>> {
  return { ...value };
}

function problemsOf(options: CheckpointSaverOptions): readonly string[] {
  const { redis, historyKeyPrefix = "", ttlSeconds = null, keep = null, messages = "messages", owner = "-" } = options;
  const isCount = (value: unknown) => value === null || (Number.isSafeInteger(value) && Number(value) > 0);
  const checks: readonly (readonly [holds: boolean, problem: string])[] = [
    [
      typeof redis === "string" ? /^rediss?:\/\//.test(redis) : isObject(redis),
      "redis must be a redis:// or rediss:// URL, ioredis' options or client, or a cluster's nodes",
    ],
    [
      typeof historyKeyPrefix === "string" && !historyKeyPrefix.startsWith("parley:"),
      'historyKeyPrefix must be a text that does not begin with "parley:"',
    ],
    [isCount(ttlSeconds), "ttlSeconds must be a whole number above 0, or null"],
    [isCount(keep), "keep must be a whole number above 0, or null"],
    [
      messages === null || (typeof messages === "string" && messages !== ""),
      "messages must be the name of a channel, or null",
    ],
    [typeof owner === "string" && owner !== "", "owner must be a text"],
  ];
  const unknown = Object.keys(options).filter((name) => !Object.hasOwn(optionNames, name));
  return [
    ...checks.flatMap(([holds, problem]) => (holds ? [] : [problem])),
    ...unknown.map((name) => `${name} is no option`),
  ];
}
