import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";

/** What a script does to Redis, for Redis: `reads` may run on a full server, so may `frees`. */
type Effect = "reads" | "writes" | "frees";

/** The scripts over a session's keys (lua/lib.lua in front of each) and those over one key of their own. */
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
  "mark-read": "writes",
  summary: "writes",
  clear: "frees",
  remove: "frees",
  fork: "writes",
  touch: "writes",
  view: "reads",
} as const satisfies Record<string, Effect>;

export const plainScripts = { "due-claim": "frees", "due-settle": "frees" } as const satisfies Record<string, Effect>;

export type SessionScript = keyof typeof sessionScripts;
export type PlainScript = keyof typeof plainScripts;
export type ScriptName = SessionScript | PlainScript;

const flags: Record<Effect, string> = { reads: " flags=no-writes", writes: "", frees: " flags=allow-oom" };

export function readScript(file: string): string {
  return readFileSync(new URL(`./lua/${file}.lua`, import.meta.url), "utf8");
}

/** The whole text of a script as Redis gets it. The shebang makes Redis hold a script to its declared keys. */
export function scriptText(name: ScriptName): string {
  if (name in plainScripts) return `#!lua${flags[plainScripts[name as PlainScript]]}\n${readScript(name)}`;
  return `#!lua${flags[sessionScripts[name as SessionScript]]}\n${readScript("lib")}\n${readScript(name)}`;
}

/** A reply of a script: strings, integers and arrays of them. */
export type Reply = string | number | null | readonly Reply[];

/** Scripts on one connection, by EVALSHA, with EVAL where the server does not know one yet. */
export class Scripts {
  readonly #redis: Redis;

  constructor(redis: Redis) {
    this.#redis = redis;
    for (const name of Object.keys({ ...sessionScripts, ...plainScripts }) as ScriptName[]) {
      redis.defineCommand(`parley:${name}`, { lua: scriptText(name) });
    }
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
    return command.call(this.#redis, keys.length, ...keys, ...args);
  }
}
