import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import calculateSlot from "cluster-key-slot";
import { Cluster } from "ioredis";
import type { Client } from "../client/connection.ts";

/** What a script does to Redis, for Redis: on a full server `reads` may run, and so may `frees` and `notes` (a few bytes that a reading needs). */
type Effect = "reads" | "writes" | "frees" | "notes";

/** The scripts over a session's keys (`libraries` in front of each) and those over one key of their own. */
export const sessionScripts = {
  begin: "writes",
  attend: "writes",
  progress: "writes",
  renew: "writes",
  finish: "writes",
  cancel: "frees",
  append: "writes",
  create: "writes",
  update: "writes",
  title: "writes",
  "mark-read": "writes",
  summary: "writes",
  clear: "frees",
  remove: "frees",
  fork: "writes",
  restore: "writes",
  give: "notes",
  touch: "notes",
  view: "reads",
} as const satisfies Record<string, Effect>;

export const plainScripts = {
  "due-claim": "frees",
  "due-settle": "frees",
  "quota-admit": "writes",
  "quota-hold": "frees",
  "quota-spend": "frees",
} as const satisfies Record<string, Effect>;

/** Scripts that take places as callers name them (lib/place.lua in front of them). */
export const placingScripts: ReadonlySet<ScriptName> = new Set(["begin", "mark-read", "view"]);

/** Scripts that count what a subject costs (quota/quota.lua in front of them). */
export const countingScripts: ReadonlySet<ScriptName> = new Set(["begin", "quota-admit", "quota-hold", "quota-spend"]);

export type SessionScript = keyof typeof sessionScripts;
export type PlainScript = keyof typeof plainScripts;
export type ScriptName = SessionScript | PlainScript;

const allowOom = " flags=allow-oom";
const flags: Record<Effect, string> = { reads: " flags=no-writes", writes: "", frees: allowOom, notes: allowOom };

/** What all session scripts share, each part built on those before it. */
export const libraries = ["base", "session", "runs", "commit"] as const;

/** Where each text lies, by its name: in the folder of what it is about. */
const paths = new Map(
  readdirSync(import.meta.dirname, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".lua"))
    .map((path) => [basename(path, ".lua"), path]),
);

/** The scripts and libraries that there are. */
export const textNames: readonly string[] = [...paths.keys()];

export function readScript(name: string): string {
  const path = paths.get(name);
  if (path === undefined) throw new TypeError(`No script ${name}`);
  return readFileSync(join(import.meta.dirname, path), "utf8");
}

/** The whole text of a script as Redis gets it. The shebang makes Redis hold a script to its declared keys. */
export function scriptText(name: ScriptName): string {
  const isPlain = name in plainScripts;
  const effect = isPlain ? plainScripts[name as PlainScript] : sessionScripts[name as SessionScript]; // as just looked up
  const inFront = [
    ...(isPlain ? [] : libraries),
    ...(placingScripts.has(name) ? ["place"] : []),
    ...(countingScripts.has(name) ? ["quota"] : []),
  ];
  return `#!lua${flags[effect]}\n${[...inFront, name].map(readScript).join("\n")}`;
}

/** A reply of a script: strings, integers and arrays of them. */
export type Reply = string | number | null | readonly Reply[];

export interface ScriptCall {
  readonly name: ScriptName;
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
}

/** Scripts on one connection, by EVALSHA, with EVAL where the server does not know one yet. */
export class Scripts {
  readonly #redis: Client;
  readonly #onFailure: (error: unknown) => void;

  /** `onFailure`: called with what a script failed with, beside its caller. */
  constructor(redis: Client, onFailure: (error: unknown) => void = () => undefined) {
    this.#redis = redis;
    this.#onFailure = onFailure;
    for (const name of Object.keys({ ...sessionScripts, ...plainScripts }) as ScriptName[]) {
      redis.defineCommand(`parley:${name}`, { lua: scriptText(name) });
    }
  }

  /**
   * Several in one piece, which Redis reads at once and carries out with nobody between, as far as one may rely on that:
   * callers are right without it, but may have to try again.
   */
  async runTogether(calls: readonly ScriptCall[]): Promise<readonly (readonly Reply[])[]> {
    // A cluster's pipeline refuses keys whose slots ioredis believes to differ: it is wrong about "{}{a}" (see slotOf).
    if (this.#redis instanceof Cluster && calls.some(({ keys }) => calculateSlot.generateMulti([...keys]) < 0)) {
      return await Promise.all(calls.map(({ name, keys, args }) => this.run(name, keys, args)));
    }
    const pipeline = this.#redis.pipeline();
    const commands = pipeline as unknown as Record<string, (...args: (string | number)[]) => unknown>; // as in run()
    for (const { name, keys, args } of calls) {
      commands[`parley:${name}`]?.call(pipeline, keys.length, ...keys, ...args);
    }
    const answers = (await pipeline.exec()) ?? [];
    return answers.map(([error, answer]) => {
      if (error) {
        this.#onFailure(error);
        throw error;
      }
      return answer as readonly Reply[]; // what every script returns
    });
  }

  /** Rejects with what ioredis rejects with; the codes that a script returns are its caller's to read. */
  run(name: ScriptName, keys: readonly string[], args: readonly (string | number)[]): Promise<readonly Reply[]> {
    // defineCommand puts a method of this name on the client, which its type does not know.
    const commands = this.#redis as unknown as Record<
      string,
      (...args: (string | number)[]) => Promise<readonly Reply[]>
    >;
    const command = commands[`parley:${name}`];
    if (!command) throw new TypeError(`No script ${name}`);
    const answer = command.call(this.#redis, keys.length, ...keys, ...args);
    answer.catch(this.#onFailure);
    return answer;
  }
}
