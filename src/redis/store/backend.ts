import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { noQuotas, type QuotaLimits, type Quotas } from "../../conversation/ports/quotas.ts";
import { silentTelemetry, type Telemetry } from "../../conversation/ports/telemetry.ts";
import type { Client, RedisSource } from "../client/connection.ts";
import { adviceFor, setting } from "../client/advice.ts";
import { Deadlines } from "./deadlines.ts";
import { DurableScripts } from "../client/durable.ts";
import { guarded } from "../client/failure.ts";
import { ForeignWrites } from "../feed/foreign-writes.ts";
import { sharedKeys } from "./keys.ts";
import { RedisFeeds } from "../feed/feeds.ts";
import { RedisQuotas } from "./quotas.ts";
import { RefusedWrites, refusalOf } from "../client/refused-writes.ts";
import { Scripts } from "../scripts/scripts.ts";
import type { StoreSettings } from "../scripts/session-calls.ts";
import { SessionIndex } from "./session-index.ts";
import { SessionRoom } from "./session-room.ts";
import { RedisSessionStore } from "./session-store.ts";
import { openTopology, type Topology } from "../client/topology.ts";

type OwnSettings = "ttlSeconds" | "processId" | "quotas" | "room" | "durable";

export interface BackendOptions extends Omit<StoreSettings, OwnSettings> {
  readonly source: RedisSource;
  readonly commandTimeoutMs: number;
  readonly enableKeyspaceEvents: boolean;
  /** Open lists of sessions hear by keyevents of what other programs write. */
  readonly listEvents: boolean;
  readonly feedCheckMs: number;
  readonly sessionTtlSeconds: number | null;
  /** Replicas that must hold a write before it is acknowledged; 0: none. */
  readonly waitReplicas: number;
  readonly waitTimeoutMs: number;
  /** What a subject may cost; left out: as much as it likes. */
  readonly quotas?: QuotaLimits;
  /** How many sessions an owner may start; null, or left out: any number. */
  readonly maxSessions?: number | null;
  readonly telemetry?: Telemetry;
  readonly onError: (error: unknown) => void;
  /** What of the servers' configuration costs a promise; said when it is known, and again where it changed. */
  readonly onAdvice: (advice: readonly string[]) => void;
  /** Redis takes no writes, and why; null: it takes them again. */
  readonly onRefusal: (refusal: string | null, cause: unknown) => void;
  /** Looks after a session's runs; gives when they need somebody again (0: not at all), or null: has not looked. */
  readonly attend: (historyKey: string) => Promise<number | null>;
}

/** Of which kinds of events feeds and lists need to be told: g generic (DEL, EXPIRE), l list, x expired, e evicted, $ string. */
const eventKinds = ["g", "l", "x", "e", "$"];

/** Everything of a process that talks to Redis: two connections and what lives on them. */
export class RedisBackend {
  readonly store: RedisSessionStore;
  readonly feeds: RedisFeeds;
  readonly commands: Client;
  readonly quotas: Quotas;
  readonly #quotas: RedisQuotas | null;
  readonly #options: BackendOptions;
  readonly #topology: Topology;
  readonly #durable: DurableScripts | null;
  readonly #deadlines: Deadlines;
  readonly #refused: RefusedWrites;
  #eventsOn: boolean | null = null;
  #listEventsOn = false;
  #advice: readonly string[] = [];
  #lost = false;

  constructor(options: BackendOptions) {
    this.#options = options;
    const { source, commandTimeoutMs, onError, telemetry = silentTelemetry } = options;
    this.#topology = openTopology(source, { commandTimeoutMs, onError, telemetry });
    this.commands = this.#topology.client;
    this.commands.on("close", () => (this.#lost = true));
    this.commands.on("ready", () => {
      if (this.#lost) this.store.grantGrace();
      this.#lost = false;
      void this.#look();
    });
    // A cluster is never away as a whole; what holds after a loss holds for the part that was.
    this.#topology.onPrimaries(() => {
      this.store.grantGrace();
      void this.#look();
    });
    this.#refused = new RefusedWrites(() => this.#topology.primaries(), options.onRefusal);
    const onFailure = (error: unknown) => this.#refused.see(error);
    this.#durable =
      options.waitReplicas === 0
        ? null
        : new DurableScripts(this.#topology, {
            replicas: options.waitReplicas,
            timeoutMs: options.waitTimeoutMs,
            commandTimeoutMs,
            onFailure,
          });
    const scripts = new Scripts(this.commands, onFailure);
    const { historyKeyPrefix, maxSessions = null } = options;
    const limits = Object.values(options.quotas ?? {}).some((limit) => limit !== null) ? options.quotas : undefined;
    this.#quotas = limits
      ? new RedisQuotas(this.commands, scripts, { historyKeyPrefix, limits, holdMs: options.leaseMs, onError })
      : null;
    this.quotas = this.#quotas ?? noQuotas;
    const index = new SessionIndex(this.commands, options.historyKeyPrefix, onError);
    this.store = new RedisSessionStore(this.commands, scripts, index, {
      ...options,
      ttlSeconds: options.sessionTtlSeconds,
      processId: randomUUID(),
      quotas: this.#quotas,
      room:
        maxSessions === null
          ? null
          : new SessionRoom(this.commands, {
              listOf: sharedKeys(historyKeyPrefix).sessions,
              most: maxSessions,
              telemetry,
              onError,
            }),
      durable: this.#durable,
    });
    const { hub, db } = this.#topology;
    const { feedCheckMs } = options;
    this.feeds = new RedisFeeds(this.store, this.commands, hub, {
      db,
      foreignWrites: options.listEvents ? new ForeignWrites(hub, db, options.historyKeyPrefix, onError) : null,
      // Without events the newest are compared within feedCheckMs.
      listCheckMs: () => feedCheckMs * (this.#listEventsOn ? 2.5 + Math.random() : 0.7 + 0.2 * Math.random()),
      checkMs: () => (this.#eventsOn === false ? Math.min(1000, feedCheckMs) : feedCheckMs),
      onCaughtUp: (events) => telemetry.caughtUp(events),
      onError,
    });
    this.#deadlines = new Deadlines({
      redis: this.commands,
      scripts,
      store: this.store,
      attend: options.attend,
      onError,
    });
  }

  start(): void {
    this.#deadlines.start();
  }

  /**
   * A connection to each server that takes writes. Until a cluster has named its nodes, its client knows only those of the
   * configuration. An answer to any command comes later than that.
   */
  async primaries(): Promise<readonly Redis[]> {
    await guarded(this.commands.ping());
    return this.#topology.primaries();
  }

  /** Why Redis cannot be used right now, or null. */
  async problem(): Promise<string | null> {
    if (this.commands.status !== "ready") return "Redis cannot be reached";
    try {
      await this.commands.ping();
    } catch (error) {
      // A server that cannot save says so to a PING as well, and answers readers.
      if (refusalOf(error) === null) return "Redis does not answer";
    }
    return this.#topology.hub.ready ? null : "Redis' subscriber connection is away";
  }

  /** What works, and costs a promise. */
  async warnings(): Promise<readonly string[]> {
    const refusal = await this.#refused.check();
    return refusal === null ? this.#advice : [refusal, ...this.#advice];
  }

  /** No deadlines any more: what is due is another gateway's. */
  stopPolling(): void {
    this.#deadlines.close();
  }

  async close(): Promise<void> {
    this.#deadlines.close();
    this.#refused.close();
    this.#quotas?.close();
    this.feeds.close();
    this.#topology.close();
    this.#durable?.close();
    // What is on its way is let through; a Redis that is away is not waited for.
    if (this.commands.status === "ready") await this.commands.quit().catch(this.#options.onError);
    this.commands.disconnect();
  }

  async #look(): Promise<void> {
    try {
      const primaries = this.#topology.primaries();
      // Each server has flags of its own; one that is off is as good as all off.
      const flags = await Promise.all(primaries.map((redis) => this.#flagsOf(redis)));
      const on = flags.every((some) => covers(some, "K"));
      this.#eventsOn = on;
      this.#listEventsOn = this.#options.listEvents && flags.every((some) => covers(some, "E"));
      const heard = this.#listEventsOn || !this.#options.listEvents;
      const told = await Promise.all(primaries.map((redis) => adviceFor(redis, on, heard)));
      const advice = [...new Set(told.flat())];
      if (advice.join() !== this.#advice.join()) this.#options.onAdvice(advice);
      this.#advice = advice;
    } catch (error) {
      // It went again in the meantime: looked at when it is back.
      this.#options.onError(error);
    }
  }

  /** CONFIG may be forbidden (managed services): then the lists are read as if events were off. */
  async #flagsOf(redis: Redis): Promise<string> {
    const name = "notify-keyspace-events";
    const { enableKeyspaceEvents, listEvents } = this.#options;
    const channels = listEvents ? ["K", "E"] : ["K"];
    const flags = await setting(redis, name);
    if (flags === null) return "";
    if (covers(flags, ...channels) || !enableKeyspaceEvents) return flags;
    try {
      await redis.config("SET", name, [flags, ...channels, ...eventKinds].join(""));
    } catch (error) {
      if (!(error instanceof Error && error.name === "ReplyError")) throw error;
      this.#options.onError(error);
    }
    return (await setting(redis, name)) ?? "";
  }
}

/** `channels`: K for those of a key, E for those of an event. A stands for all kinds of events. */
function covers(flags: string, ...channels: readonly string[]): boolean {
  const kinds = flags.includes("A") ? [] : eventKinds;
  return [...channels, ...kinds].every((flag) => flags.includes(flag));
}
