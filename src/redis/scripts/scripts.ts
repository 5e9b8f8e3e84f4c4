import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Cluster, Redis } from "ioredis";
import { contractOf, plainScripts, scriptNames } from "./contracts.ts";
import type { AnswerOf, Arg, ArgsOf, PlainScript, Reply, ScriptName } from "./contracts.ts";

export interface ScriptCall {
  readonly name: ScriptName;
  readonly keys: readonly string[];
  /** In the order of the contract. */
  readonly args: readonly Arg[];
}

/** Scripts on one connection, by EVALSHA, with EVAL where the server does not know one yet. */
export class Scripts {
  readonly #redis: Redis | Cluster;
  readonly #onFailure: (error: unknown) => void;
  /** Whose text this connection has brought: the first call brings it, without asking whether it is known. */
  readonly #sent = new Set<ScriptName>();

  /** `onFailure`: called with what a script failed with, beside its caller. */
  constructor(redis: Redis | Cluster, onFailure: (error: unknown) => void = () => undefined) {
    this.#redis = redis;
    this.#onFailure = onFailure;
  }

  /** Rejects with what ioredis rejects with; the codes that a script returns are its caller's to read. */
  async run({ name, keys, args }: ScriptCall): Promise<readonly Reply[]> {
    try {
      const { text, sha } = scriptOf(name);
      const rest = [keys.length, ...keys, ...args] as const;
      const first = !this.#sent.has(name);
      this.#sent.add(name);
      const asked = first ? this.#redis.eval(text, ...rest) : this.#redis.evalsha(sha, ...rest);
      const answer = await asked.catch((error: unknown) => {
        if (!isUnknownScript(error)) throw error;
        return this.#redis.eval(text, ...rest);
      });
      // Taken out of ioredis' list: promises that have waited may have reached the old generation, and would keep a page's
      // rows there until that is collected.
      return (answer as Reply[]).splice(0); // what every script returns
    } catch (error) {
      this.#onFailure(error);
      throw error;
    }
  }

  /** A script over keys of its own. */
  async call<Name extends PlainScript>(
    name: Name,
    keys: readonly string[],
    args: ArgsOf<Name>,
  ): Promise<AnswerOf<Name>> {
    return answerOf(name, await this.run({ name, keys, args: ordered(name, args) }));
  }
}

/** Arguments in the order that the script takes them. */
export function ordered<Name extends ScriptName>(name: Name, args: ArgsOf<Name>): readonly Arg[] {
  const given = args as Readonly<Record<string, Arg | readonly Arg[]>>; // ArgsOf has a value for each name of the contract
  return scriptOf(name).args.flatMap((one) => given[one.replace("...", "")] ?? []);
}

/** What a script has answered, by name. */
export function answerOf<Name extends ScriptName>(name: Name, [code, ...values]: readonly Reply[]): AnswerOf<Name> {
  const names = scriptOf(name).answers.get(String(code));
  if (!names) throw new TypeError(`The script ${name} answered ${String(code)}`);
  const answer: Record<string, Reply | undefined> = { code: String(code) };
  names.forEach((one, i) => {
    if (one.endsWith("...")) answer[one.slice(0, -3)] = values.slice(i);
    else answer[one] = values[i];
  });
  return answer as AnswerOf<Name>; // the names of the contract, whose type is made of the same text
}

/** What all session scripts share, each part built on those before it. */
export const libraries = ["base", "mark", "session", "runs", "commit"] as const;

const allowOom = " flags=allow-oom";
const flags = { reads: " flags=no-writes", writes: "", frees: allowOom, notes: allowOom } as const;

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

interface Script {
  /** As Redis gets it. The shebang makes Redis hold a script to its declared keys. */
  readonly text: string;
  /** What EVALSHA names it by. */
  readonly sha: string;
  readonly args: readonly string[];
  /** The names of what comes with each code. */
  readonly answers: ReadonlyMap<string, readonly string[]>;
}

const scripts = new Map<ScriptName, Script>();

export function scriptOf(name: ScriptName): Script {
  const known = scripts.get(name);
  if (known !== undefined) return known;
  const { args, answers, effect, libraries: more = [] } = contractOf(name);
  const inFront = [...(name in plainScripts ? [] : libraries), ...more];
  const text = `#!lua${flags[effect]}\n${[...inFront, name].map(readScript).join("\n")}`;
  const alternatives = answers.split(" | ").map((one) => {
    const [code = "", ...names] = one.split(" ");
    return [code, names] as const;
  });
  const sha = createHash("sha1").update(text).digest("hex");
  const script = { text, sha, args: args.split(" "), answers: new Map(alternatives) };
  scripts.set(name, script);
  return script;
}

const names = new Map<string, ScriptName>();

/** Which script EVALSHA means by its hash, or EVAL by its text. */
export function scriptNameOf(which: string): ScriptName | undefined {
  if (names.size === 0) {
    for (const name of scriptNames) names.set(scriptOf(name).sha, name).set(scriptOf(name).text, name);
  }
  return names.get(which);
}

/** A server that does not know a script yet says so, and gets its text. */
export function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("NOSCRIPT");
}
