import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

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
  return scriptOf(name).text;
}

/** What EVALSHA names a script by. */
export function scriptSha(name: ScriptName): string {
  return scriptOf(name).sha;
}

/** Which script EVALSHA means by its hash, or EVAL by its text. */
export function scriptNameOf(which: string): ScriptName | undefined {
  if (names.size === 0) {
    for (const name of Object.keys({ ...sessionScripts, ...plainScripts }) as ScriptName[]) {
      // the keys of both tables
      names.set(scriptSha(name), name).set(scriptText(name), name);
    }
  }
  return names.get(which);
}

const names = new Map<string, ScriptName>();
const scripts = new Map<ScriptName, { readonly text: string; readonly sha: string }>();

function scriptOf(name: ScriptName): { readonly text: string; readonly sha: string } {
  const known = scripts.get(name);
  if (known !== undefined) return known;
  const isPlain = name in plainScripts;
  const effect = isPlain ? plainScripts[name as PlainScript] : sessionScripts[name as SessionScript]; // as just looked up
  const inFront = [
    ...(isPlain ? [] : libraries),
    ...(placingScripts.has(name) ? ["place"] : []),
    ...(countingScripts.has(name) ? ["quota"] : []),
  ];
  const text = `#!lua${flags[effect]}\n${[...inFront, name].map(readScript).join("\n")}`;
  const script = { text, sha: createHash("sha1").update(text).digest("hex") };
  scripts.set(name, script);
  return script;
}
