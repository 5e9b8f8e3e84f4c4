import { randomUUID } from "node:crypto";
import { Cluster } from "ioredis";
import { notFound, ParleyError } from "../../conversation/errors.ts";
import { ExpiredCursor, unknownMessage, type Anchor, type Cursor } from "../../conversation/message/cursor.ts";
import { markOf } from "../../conversation/message/ids.ts";
import type { Op, StartedTurn, RecordChange } from "../../conversation/ports/store.ts";
import type { MemorySettings } from "../../conversation/session.ts";
import type { Client } from "../client/connection.ts";
import type { DurableScripts } from "../client/durable.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import type { RedisQuotas } from "../store/quotas.ts";
import type { SessionIndex } from "../store/session-index.ts";
import type { SessionRoom } from "../store/session-room.ts";
import { sessionScripts, type AnswerOf, type ArgsOf, type PlainScript, type SessionScript } from "./contracts.ts";
import { headOf, text, type Head } from "./replies.ts";
import { answerOf, ordered, type ScriptCall, type Scripts } from "./scripts.ts";

export interface StoreSettings {
  /** In front of each sessionId; "" as in LangChain JS. */
  readonly historyKeyPrefix: string;
  /** Whether a touch adopts histories of foreign code: where there is one owner. */
  readonly adopts: boolean;
  /** Seconds; null: sessions never expire by themselves. */
  readonly ttlSeconds: number | null;
  /** The most messages that a session keeps: what is older is trimmed as new ones come. null: all. */
  readonly maxMessages: number | null;
  /** Whether a session that is started without a title gets one by itself after its first reply. */
  readonly autoTitle: boolean;
  /** Names this process in the runs that it makes. */
  readonly processId: string;
  readonly leaseMs: number;
  /** How long a run waits for decisions on its calls of tools. */
  readonly approvalTimeoutMs: number;
  readonly maxQueuedRuns: number;
  readonly model: string;
  readonly memory: MemorySettings;
  /** The most rows that a turn reads. */
  readonly memoryRows: number;
  /** What an owner's turns are counted against; null: nothing. */
  readonly quotas: RedisQuotas | null;
  /** Whether an owner may start another session; left out: always. */
  readonly room?: SessionRoom | null;
  /** Writes that are acknowledged only when replicas hold them; null: as soon as the primary does. */
  readonly durable: DurableScripts | null;
  /** The next run that waits in this session is this process', and nothing runs there. */
  readonly onTurnFree: (historyKey: string) => void;
  /** A turn has begun for this process, although begin() rejects: the replicas were too slow to acknowledge it. */
  readonly onStarted: (turn: StartedTurn) => void;
}

/** An op, and how long the session remembers it. */
interface FullOp extends Op {
  readonly keptMs: number;
}

/** Over which session a script runs, and for whom. */
export interface Target {
  /** "*": the gateway itself. */
  readonly owner: string;
  readonly key: string;
  /** Left out: the script needs none. */
  readonly op?: FullOp;
  /** A copy that the script puts in its place: one key more, in the session's slot. */
  readonly staging?: string;
  /** With the checkpoints of the LangGraph thread of this session: two keys more. */
  readonly checkpoints?: boolean;
  /** Keys of the owner's that the script counts in; none in a cluster, where they lie in another slot. */
  readonly counted?: readonly string[];
  /** Whose list and sidebar the script writes itself, where all is on one server. */
  readonly indexOf?: string;
  readonly mode?: ForeignMode | undefined;
}

/** What a script makes of a session that has no record. */
export const foreign = { leave: 0, adopt: 1, existingOnly: 2 } as const;
type Change = "cancel" | "update" | "mark-read" | "clear";
type ForeignMode = (typeof foreign)[keyof typeof foreign];

/** What may be lost with a primary without anybody having been told otherwise: it is made again. */
const passing: ReadonlySet<SessionScript> = new Set(["progress", "renew", "touch", "summary", "title", "attend"]);

const hours25 = 90_000_000;
/** An op of ours guards only against a command sent twice by the connection, which happens within its time-outs. */
const minutes10 = 600_000;

/** An op that a caller named, and may retry as long as P8 says. */
export function callersOp({ id, fingerprint }: Op): FullOp {
  return { id, fingerprint, keptMs: hours25 };
}

export function ownOp(id = `i:${randomUUID()}`): FullOp {
  return { id, fingerprint: "", keptMs: minutes10 };
}

/** Calls of scripts over a session's keys (lib/base.lua says which arguments come first), and what their answers tell this process. */
export class SessionCalls {
  readonly redis: Client;
  readonly settings: StoreSettings;
  readonly index: SessionIndex;
  readonly #scripts: Scripts;
  #graceUntil = 0;

  constructor(redis: Client, scripts: Scripts, index: SessionIndex, settings: StoreSettings) {
    this.redis = redis;
    this.#scripts = scripts;
    this.index = index;
    this.settings = settings;
  }

  /** A gateway that lost Redis renews its leases before others take them: all gateways that lost it wait half a lease more. */
  grantGrace(): void {
    this.#graceUntil = Date.now() + this.settings.leaseMs / 2;
  }

  /** Milliseconds that other processes' leases are given beyond their end. */
  get leaseGraceMs(): number {
    return Date.now() < this.#graceUntil ? Math.ceil(this.settings.leaseMs / 2) : 0;
  }

  historyKey(sessionId: string): string {
    return this.settings.historyKeyPrefix + sessionId;
  }

  sessionIdOf(key: string): string {
    return key.slice(this.settings.historyKeyPrefix.length);
  }

  async run<Name extends SessionScript>(name: Name, target: Target, args: ArgsOf<Name>): Promise<AnswerOf<Name>> {
    const { durable } = this.settings;
    const call = this.#call(name, target, args);
    const isDurable = sessionScripts[name].effect !== "reads" && !passing.has(name);
    const reply = await guarded(durable && isDurable ? durable.run(call) : this.#scripts.run(call));
    if (reply[0] === "CORRUPT") {
      throw new Error(`A key of session ${JSON.stringify(target.key)} holds a foreign type`);
    }
    return answerOf(name, reply);
  }

  /** A script over keys of several sessions. */
  runPlain<Name extends PlainScript>(name: Name, keys: readonly string[], args: ArgsOf<Name>): Promise<AnswerOf<Name>> {
    return guarded(this.#scripts.call(name, keys, args));
  }

  /** A change of a session that is there. `what`: is missing where it is NOT_FOUND; `through`: the place that the script was given. */
  async write(
    name: Change,
    target: Target,
    args: ArgsOf<Change>,
    { what, through = null }: { readonly what?: string; readonly through?: Anchor | null } = {},
  ): Promise<void> {
    const answer = await this.run(name, { ...target, op: ownOp() }, args);
    if (answer.code === "NOT_FOUND") throw notFound(what);
    if (answer.code === "EXPIRED") throw through && "kind" in through ? unknownMessage() : new ExpiredCursor();
    this.note(target.owner, target.key, headOf(answer.head));
  }

  /** A session that was not there; a retry of the same op finds it made. `full`: its owner may start none, so only a retry gets an answer. */
  async make(
    name: "create" | "fork",
    target: Target & { readonly op: FullOp },
    args: ArgsOf<"create" | "fork">,
    full: SessionRoom | null,
  ): Promise<void> {
    const at = full ? { ...target, mode: foreign.existingOnly } : target;
    const answer = await this.run(name, at, args);
    switch (answer.code) {
      case "OK":
        this.note(target.owner, target.key, headOf(answer.head));
        return;
      case "KNOWN":
        if (text(answer.fingerprint) === target.op.fingerprint) return;
        throw new ParleyError("SESSION_EXISTS", "This idempotencyKey was used for another session.");
      case "NOT_FOUND":
        throw full?.refusal() ?? notFound();
      case "STAGING":
        throw new ParleyError("STORE_UNAVAILABLE", "The copy was not complete in time. Try again.", {
          retryAfterSeconds: 1,
        });
      case "EXISTS":
        throw new ParleyError("SESSION_EXISTS", "This session id is taken. Choose another, or leave it out.");
    }
  }

  /** Does what may start a session. `full`: its owner may not, and says why. */
  starting<T>(owner: string, act: (full: SessionRoom | null) => Promise<T>): Promise<T> {
    const { room = null } = this.settings;
    return room ? room.starting(owner, (isFull) => act(isFull ? room : null)) : act(null);
  }

  /** A session whose turn is free while a run of this process waits in it is handed to `onTurnFree` at once. */
  note(owner: string, key: string, head: Head): void {
    this.index.note(owner, key, head);
    if (head.free && head.nextOwner === this.settings.processId) this.settings.onTurnFree(key);
  }

  /**
   * Where there are several owners each has ops of its own: they outlive the session, and who is given its id later must
   * not meet what another did under it (P8, P11).
   */
  opId(owner: string, id: string): string {
    return id === "" || owner === "*" || this.settings.adopts ? id : `${markOf(owner)}:${id}`;
  }

  anchorArgs(owner: string, anchor: Anchor | null): PlaceArgs {
    return anchorArgs(anchor, (messageId) => this.opId(owner, `m:${messageId}`));
  }

  #call<Name extends SessionScript>(name: Name, target: Target, own: ArgsOf<Name>): ScriptCall {
    const { adopts, autoTitle, maxMessages, ttlSeconds } = this.settings;
    const { owner, key, op, staging, checkpoints = false, counted = [], indexOf } = target;
    const { mode = adopts ? foreign.adopt : foreign.leave } = target;
    const index = indexOf === undefined ? null : this.index.keysOf(indexOf);
    const publish = this.redis instanceof Cluster ? "SPUBLISH" : index ? "PUBLISH+" : "PUBLISH";
    const kept = maxMessages === null ? "" : `:${maxMessages}`;
    const common = [publish, owner, `${mode}${autoTitle ? "t" : ""}${kept}`, ttlSeconds ?? ""];
    const opArgs = [this.opId(owner, op?.id ?? ""), op?.fingerprint ?? "", op?.keptMs ?? ""];
    const named = sessionKeys(key);
    const more = [...(staging === undefined ? [] : [staging]), ...(checkpoints ? named.checkpoints : [])];
    const keys = [...named.all, ...more, ...counted, ...(index ?? [])];
    return { name, keys, args: [...common, ...opArgs, ...ordered(name, own)] };
  }
}

/** A place in a history: three arguments of a script (lib/place.lua), empty where there is none. */
type PlaceArgs = readonly [kind: string | number, where: string | number, what: string];

export function cursorArgs(cursor: Cursor | null): PlaceArgs {
  return cursor ? [cursor.generation, cursor.position, cursor.mark] : ["", "", ""];
}

/** `opId`: of the message of an id that the caller chose. */
function anchorArgs(anchor: Anchor | null, opId: (messageId: string) => string): PlaceArgs {
  if (anchor === null || "generation" in anchor) return cursorArgs(anchor);
  switch (anchor.kind) {
    case "place":
      return ["mark", anchor.position, anchor.mark];
    case "named":
      return ["named", anchor.hint, anchor.messageId];
    case "chosen":
      return ["chosen", opId(anchor.messageId), anchor.messageId];
  }
}

/** Field, value, … of what is set; what goes back to its default is in dropsOf. */
export function recordFields(record: RecordChange): readonly (string | number)[] {
  const { memory, metadata, archived } = record;
  const fields = {
    title: record.title,
    instructions: record.instructions,
    model: record.model,
    mem: memory?.strategy,
    memTurns: memory && (memory.maxTurns ?? ""),
    memTokens: memory && (memory.maxTokens ?? ""),
    metadata: metadata && JSON.stringify(metadata),
    archived: archived === undefined ? null : archived ? 1 : 0,
  };
  return Object.entries(fields).flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [name, value],
  );
}

/** Fields that go back to their default. */
export function dropsOf(change: RecordChange): readonly string[] {
  const drops = (["title", "instructions", "model", "metadata"] as const).filter((name) => change[name] === null);
  return change.memory === null ? [...drops, "mem", "memTurns", "memTokens"] : drops;
}

export function packMemory(memory: MemorySettings): string {
  return `${memory.strategy}:${memory.maxTurns ?? ""}:${memory.maxTokens ?? ""}`;
}
