import { randomUUID } from "node:crypto";
import { Cluster } from "ioredis";
import { ExpiredCursor, unknownMessage, type Anchor } from "../../conversation/message/cursor.ts";
import { notFound, ParleyError } from "../../conversation/errors.ts";
import { markOf } from "../../conversation/message/ids.ts";
import type { Op } from "../../conversation/ports/store.ts";
import type { Client } from "../client/connection.ts";
import { anchorArgs, cursorArgs, type PlaceArgs } from "./cursor-args.ts";
import type { DurableScripts } from "../client/durable.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import { headOf, text, type Head } from "./replies.ts";
import type { Reply, ScriptCall, Scripts } from "./scripts.ts";
import { sessionScripts, type SessionScript } from "./texts.ts";
import type { SessionIndex } from "../store/session-index.ts";

export interface CallSettings {
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
  /** Writes that are acknowledged only when replicas hold them; null: as soon as the primary does. */
  readonly durable: DurableScripts | null;
  /** The next run that waits in this session is this process', and nothing runs there. */
  readonly onTurnFree: (historyKey: string) => void;
}

export type Args = readonly (string | number)[];

/** An op, and how long the session remembers it. */
export interface FullOp extends Op {
  readonly keptMs: number;
}

export interface CallExtras {
  /** A copy that the script puts in its place: one key more, in the session's slot. */
  readonly staging?: string;
  /** Keys of the owner's that the script counts in; none in a cluster, where they lie in another slot. */
  readonly counted?: readonly string[];
  /** Whose list and sidebar the script writes itself, where all is on one server. */
  readonly indexOf?: string;
  readonly mode?: ForeignMode | undefined;
}

export interface WriteExtras {
  /** Is missing where the script says NOT_FOUND. */
  readonly what?: string;
  /** The place that the script was given. */
  readonly through?: Anchor | null;
}

export interface MakeExtras extends CallExtras {
  /** Of an owner that may start no other session: only a retry gets an answer. */
  readonly full?: { refusal(): ParleyError } | null;
}

/** What a script makes of a session that has no record (ARGV 3). */
export const foreign = { leave: 0, adopt: 1, existingOnly: 2 } as const;
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
  readonly #redis: Client;
  readonly #scripts: Scripts;
  readonly #index: SessionIndex;
  readonly #settings: CallSettings;

  constructor(redis: Client, scripts: Scripts, index: SessionIndex, settings: CallSettings) {
    this.#redis = redis;
    this.#scripts = scripts;
    this.#index = index;
    this.#settings = settings;
  }

  async run(
    script: SessionScript,
    owner: string,
    key: string,
    op: FullOp | null,
    args: Args,
    extras: CallExtras = {},
  ): Promise<readonly Reply[]> {
    const call = this.#call(script, owner, key, op, args, extras);
    const { durable } = this.#settings;
    const running =
      durable && sessionScripts[script] !== "reads" && !passing.has(script)
        ? durable.run(call)
        : this.#scripts.run(call.name, call.keys, call.args);
    const answer = await guarded(running);
    refuseCorrupt(key, answer);
    return answer;
  }

  /** A change of a session that is there. */
  async write(
    script: SessionScript,
    owner: string,
    key: string,
    op: FullOp,
    args: Args,
    { what, through = null }: WriteExtras = {},
  ): Promise<void> {
    const answer = await this.run(script, owner, key, op, args);
    if (answer[0] === "NOT_FOUND") throw notFound(what);
    if (answer[0] === "EXPIRED") throw through && "kind" in through ? unknownMessage() : new ExpiredCursor();
    this.note(owner, key, headOf(answer[1]));
  }

  /** A session that was not there; a retry of the same op finds it made. */
  async make(
    script: SessionScript,
    owner: string,
    key: string,
    op: Op,
    args: Args,
    { full = null, ...extras }: MakeExtras = {},
  ): Promise<void> {
    const mode = full ? { mode: foreign.existingOnly } : {};
    const answer = await this.run(script, owner, key, callersOp(op), args, { ...extras, ...mode });
    switch (answer[0]) {
      case "OK":
        this.note(owner, key, headOf(answer[1]));
        return;
      case "KNOWN":
        if (text(answer[1]) === op.fingerprint) return;
        throw new ParleyError("SESSION_EXISTS", "This idempotencyKey was used for another session.");
      case "NOT_FOUND":
        throw full?.refusal() ?? notFound();
      case "STAGING":
        throw new ParleyError("STORE_UNAVAILABLE", "The copy was not complete in time. Try again.", {
          retryAfterSeconds: 1,
        });
      default:
        throw new ParleyError("SESSION_EXISTS", "This session id is taken. Choose another, or leave it out.");
    }
  }

  /**
   * Both leave in one write (sending.ts): foreign code that writes without a pause would get between them each time. Who asks
   * may have to ask again all the same. null: no such session.
   */
  async touchAndView(owner: string, key: string, args: Args): Promise<readonly Reply[] | null> {
    const [touched, viewed] = await Promise.all([
      this.run("touch", owner, key, null, cursorArgs(null)),
      this.run("view", owner, key, null, args),
    ]);
    if (touched[0] === "NOT_FOUND") return null;
    this.note(owner, key, headOf(touched[1]));
    return viewed;
  }

  /** A session whose turn is free while a run of this process waits in it is handed to `onTurnFree` at once. */
  note(owner: string, key: string, head: Head): void {
    this.#index.note(owner, key, head);
    if (head.free && head.nextOwner === this.#settings.processId) this.#settings.onTurnFree(key);
  }

  /**
   * Where there are several owners each has ops of its own: they outlive the session, and who is given its id later must
   * not meet what another did under it (P8, P11).
   */
  opId(owner: string, id: string): string {
    return id === "" || owner === "*" || this.#settings.adopts ? id : `${markOf(owner)}:${id}`;
  }

  anchorArgs(owner: string, anchor: Anchor | null): PlaceArgs {
    return anchorArgs(anchor, (messageId) => this.opId(owner, `m:${messageId}`));
  }

  #call(
    name: SessionScript,
    owner: string,
    key: string,
    op: FullOp | null,
    args: Args,
    { staging, counted = [], indexOf, mode = this.#settings.adopts ? foreign.adopt : foreign.leave }: CallExtras = {},
  ): ScriptCall {
    const { autoTitle, maxMessages, ttlSeconds } = this.#settings;
    const index = indexOf === undefined ? null : this.#index.keysOf(indexOf);
    const publish = this.#redis instanceof Cluster ? "SPUBLISH" : index ? "PUBLISH+" : "PUBLISH";
    const kept = maxMessages === null ? "" : `:${maxMessages}`;
    const common = [publish, owner, `${mode}${autoTitle ? "t" : ""}${kept}`, ttlSeconds ?? ""];
    const opArgs = [this.opId(owner, op?.id ?? ""), op?.fingerprint ?? "", op?.keptMs ?? ""];
    const keys = [...sessionKeys(key).all, ...(staging === undefined ? [] : [staging]), ...counted, ...(index ?? [])];
    return { name, keys, args: [...common, ...opArgs, ...args] };
  }
}

function refuseCorrupt(key: string, answer: readonly Reply[]): void {
  if (answer[0] === "CORRUPT") throw new Error(`A key of session ${JSON.stringify(key)} holds a foreign type`);
}
