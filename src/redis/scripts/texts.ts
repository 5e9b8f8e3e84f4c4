import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { contractOf, plainScripts, scriptNames, type ScriptName } from "./contracts.ts";

/** What all session scripts share, each part built on those before it. */
export const libraries = ["base", "session", "runs", "commit"] as const;

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

export interface Script {
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
