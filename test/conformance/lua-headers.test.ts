import { describe, expect, test } from "vitest";
import {
  contractOf as namesOf,
  plainScripts,
  scriptNames,
  sessionScripts,
  type ScriptName,
} from "../../src/redis/scripts/contracts.ts";
import { libraries, readScript, scriptOf, textNames } from "../../src/redis/scripts/scripts.ts";

// A script is a function with a contract: its header says purpose, KEYS, ARGV and every code that it returns. Here the
// header is held against the body, and both against the names in contracts.ts, by which TypeScript calls it.

const libArguments = numbersTo(7);
const libKeys = numbersTo(8);

interface Contract {
  readonly purpose: string;
  readonly keys: string;
  readonly arguments: string;
  readonly returns: string;
  readonly body: string;
}

function contractOf(text: string): Contract {
  const lines = text.split("\n");
  const end = lines.findIndex((line) => !line.startsWith("--"));
  const parts = { purpose: "", KEYS: "", ARGV: "", Returns: "" };
  let at: keyof typeof parts = "purpose";
  for (const line of lines.slice(0, end)) {
    const [, label, rest] = /^-- (?:(KEYS|ARGV|Returns)(?=[: ]):?)?(.*)$/.exec(line) ?? [];
    if (label === "KEYS" || label === "ARGV" || label === "Returns") at = label;
    parts[at] += ` ${(rest ?? "").trim()}`;
  }
  const { purpose, KEYS, ARGV, Returns } = parts;
  return {
    purpose: purpose.trim(),
    keys: KEYS.trim(),
    arguments: ARGV.trim(),
    returns: Returns.trim(),
    body: lines.slice(end).join("\n"),
  };
}

/** Everything wrong with a script's text; `lib` is the library in front of it, "" for a script without. */
function problemsOf(name: ScriptName, text: string, lib: string): readonly string[] {
  const contract = contractOf(text);
  const problems: string[] = [];
  if (!/^[A-Z][^]*\.$/.test(contract.purpose)) problems.push("The purpose is not a sentence");
  const own = lib === "" ? 1 : libArguments.length + 1;
  const { args, answers } = namesOf(name);
  problems.push(...keyProblems(contract, lib), ...argumentProblems(contract, args, own, lib));
  const promised = lib === "" ? answers : `${answers} | CORRUPT`;
  const returns = withoutRemarks(contract.returns).replaceAll(/\s+/g, " ").replaceAll(" ,", ",").trim();
  if (returns !== promised) problems.push(`Returns is ${returns} in the header, ${promised} in contracts.ts`);
  return [...problems, ...codeProblems(contract, lib)];
}

function withoutRemarks(header: string): string {
  return header.replaceAll(/\([^)]*\)/g, "");
}

function keyProblems({ keys, body }: Contract, lib: string): readonly string[] {
  const documented = numbersIn(keys);
  const used = indexes(body, "KEYS");
  const known = lib === "" ? [] : libKeys;
  if (lib !== "" && !keys.startsWith("the eight of base.lua"))
    return ["KEYS does not begin with the eight of base.lua"];
  if (lib !== "" && used.some((index) => known.includes(index))) return ["KEYS of base.lua are used by number"];
  return difference("KEYS", documented, used);
}

function argumentProblems(
  { arguments: header, body }: Contract,
  args: string,
  first: number,
  lib: string,
): readonly string[] {
  const problems: string[] = [];
  const documented =
    header === "none of its own"
      ? ""
      : withoutRemarks(header)
          .split(",")
          .map((one) => one.trim())
          .join(" ");
  if (documented !== args) problems.push(`ARGV is ${documented} in the header, ${args} in contracts.ts`);
  const words = args.split(" ").filter((word) => word !== "");
  const names = words.filter((word) => !word.endsWith("..."));
  const rest = words.find((word) => word.endsWith("..."))?.slice(0, -3);
  const next = first + names.length;
  // Of thousands of values unpack makes an error, so what repeats is left where it is.
  const range = [...(first > 1 || rest !== undefined ? [first] : []), ...(rest === undefined ? [] : [next - 1])];
  const lines = body.replaceAll(/,\n\s+/g, ", ").split("\n");
  const taken = `local ${names.join(", ")} = unpack(${["ARGV", ...range].join(", ")})`;
  if (names.length > 0 && !lines.includes(taken)) problems.push(`The body lacks: ${taken}`);
  if (rest !== undefined && !lines.includes(`local ${rest} = ${next}`))
    problems.push(`The body lacks: local ${rest} = ${next}`);
  if (indexes(body, "ARGV").length > 0) problems.push("ARGV is used by number");
  const code = body.replaceAll(/--[^\n]*/g, "");
  for (const name of rest === undefined ? names : [...names, rest]) {
    if ([...code.matchAll(new RegExp(`\\b${name}\\b`, "g"))].length < 2) problems.push(`${name} is not used`);
    if (namesIn(lib).has(name)) problems.push(`${name} hides a name of the libraries`);
  }
  return problems;
}

/** What a library has at its top. */
function namesIn(lib: string): ReadonlySet<string> {
  const found = [...lib.matchAll(/^local (?:function )?([\w, ]+)/gm)];
  return new Set(found.flatMap(([, names = ""]) => names.split(",").map((name) => name.trim())));
}

function codeProblems({ returns, body }: Contract, lib: string): readonly string[] {
  const alternatives = withoutRemarks(returns).split("|");
  const documented = alternatives.flatMap((one) => /^\s*([A-Z][A-Z_]+)\b/.exec(one)?.[1] ?? []);
  return difference("Returns", documented, codesOf(body, lib));
}

/** The codes that a body's own return statements can give; those of the library's functions are read from the library. */
function codesOf(body: string, lib: string): readonly string[] {
  const outside = body.replaceAll(/^local function [^]*?^end$/gm, "");
  const codes: string[] = [];
  for (const [, expression = ""] of outside.matchAll(/\breturn ([^\n]+)/g)) {
    const variable = /^(\w+)$/.exec(expression)?.[1];
    const table = variable === undefined ? expression : (assignmentTo(variable, outside) ?? expression);
    const call = /^(startedA\w+)\(/.exec(table)?.[1];
    if (call !== undefined) codes.push(...quoted(functionOf("startedAnswer", lib)).slice(0, 1));
    const first = /^\{ ([^,}]*)/.exec(table)?.[1] ?? "";
    codes.push(...quoted(first));
    if (/^code\b\s*$/.test(first))
      codes.push(...failuresOf("load", lib), ...quoted(functionOf("wrongType", lib), "return"));
    if (/^wrong\b/.test(first)) codes.push(...quoted(functionOf("wrongType", lib), "return"));
    if (/^why\b/.test(first)) codes.push(...failuresOf("start", lib));
  }
  return codes;
}

function assignmentTo(variable: string, code: string): string | undefined {
  return new RegExp(`local ${variable} = (\\{[^\\n]*)`).exec(code)?.[1];
}

function functionOf(name: string, lib: string): string {
  const found = new RegExp(`^local function ${name}\\([^]*?^end$`, "m").exec(lib);
  if (!found) throw new Error(`lib/ has no function ${name}`);
  return found[0];
}

function failuresOf(name: string, lib: string): readonly string[] {
  return [...functionOf(name, lib).matchAll(/return nil, '([A-Z_]+)'/g)].flatMap((found) => found[1] ?? []);
}

function quoted(code: string, behind = ""): readonly string[] {
  return [...code.matchAll(new RegExp(`${behind}[^\\n']*'([A-Z][A-Z_]+)'`, "g"))].flatMap((found) => found[1] ?? []);
}

/** The numbers that items of a list begin with: "1 sends, 2 going" holds 1 and 2. */
function numbersIn(header: string): readonly number[] {
  return [...header.replaceAll(/\([^)]*\)/g, "").matchAll(/(?:^|[,;] +)(\d+) /g)].map((found) => Number(found[1]));
}

function indexes(body: string, array: "KEYS" | "ARGV"): readonly number[] {
  return [...body.matchAll(new RegExp(`\\b${array}\\[(\\d+)\\]`, "g"))].map((found) => Number(found[1]));
}

function difference<T>(what: string, documented: readonly T[], used: readonly T[]): readonly string[] {
  return [
    ...new Set([
      ...documented.filter((one) => !used.includes(one)).map((one) => `${what} ${String(one)} is documented, not used`),
      ...used.filter((one) => !documented.includes(one)).map((one) => `${what} ${String(one)} is used, not documented`),
    ]),
  ];
}

function numbersTo(last: number): readonly number[] {
  return Array.from({ length: last }, (_, i) => i + 1);
}

const lib = libraries.map(readScript).join("\n");
const sessionNames = Object.keys(sessionScripts) as ScriptName[]; // keys of the table itself
const plainNames = Object.keys(plainScripts) as ScriptName[]; // as above
/** What lies in front of a script, to whose names its own must not be added twice. */
const inFrontOf = (name: ScriptName) => [lib, ...(namesOf(name).libraries ?? []).map(readScript)].join("\n");

test("each script has a file, and each file is a script", () => {
  expect([...textNames].sort()).toEqual([...libraries, "place", "quota", ...scriptNames].sort());
});

describe("a script's header tells its body", () => {
  test.each(sessionNames)("%s", (name) => {
    expect(problemsOf(name, readScript(name), inFrontOf(name))).toEqual([]);
  });
  test.each(plainNames)("%s", (name) => {
    expect(problemsOf(name, readScript(name), "")).toEqual([]);
  });
});

test("the library documents the keys and arguments that it takes", () => {
  const contract = contractOf(lib);
  expect(numbersIn(contract.keys.replace("events (channel).", "events (channel),"))).toEqual(libKeys);
  expect([...new Set(indexes(contract.body, "KEYS"))].sort()).toEqual(libKeys);
  const names = withoutRemarks(contract.arguments.split("A script's own")[0] ?? "")
    .split(",")
    .map((one) => one.trim());
  expect(names).toHaveLength(libArguments.length);
  expect(contract.body).toContain(`local ${names.join(", ")} = unpack(ARGV, 1, ${libArguments.length})`);
  const scripts = sessionNames.map((name) => contractOf(readScript(name)).body);
  const all = [contract.body, ...scripts].join("\n");
  for (const name of names) expect([...all.matchAll(new RegExp(`\\b${name}\\b`, "g"))].length, name).toBeGreaterThan(1);
  expect(indexes(all, "ARGV")).toEqual([]);
});

test("each script declares its keys to Redis, and only those that free, note or read may run on a full server", () => {
  for (const name of sessionNames) {
    const [shebang = ""] = scriptOf(name).text.split("\n");
    expect(shebang).toMatch(/^#!lua\b/);
    expect(/no-writes|allow-oom/.test(shebang), name).toBe(namesOf(name).effect !== "writes");
  }
});

describe("a header that lies is found", () => {
  const good = readScript("mark-read");
  const header = (names: string) => `ARGV is ${names} in the header, kind where what in contracts.ts`;
  const returns = (text: string) =>
    `Returns is ${text} in the header, OK head | EXPIRED | NOT_FOUND | CORRUPT in contracts.ts`;
  const lies: readonly (readonly [string, string, string, string])[] = [
    ["an argument too many", "what (a", "what, colour (a", header("kind where what colour")],
    ["an argument too few", "where, what (a", "where (a", header("kind where")],
    ["arguments in another order", "where, what (a", "what, where (a", header("kind what where")],
    ["repeated arguments", "what (a", "what... (a", header("kind where what...")],
    [
      "a body with another order",
      "local kind, where, what",
      "local kind, what, where",
      "The body lacks: local kind, where, what = unpack(ARGV, 8)",
    ],
    ["an argument by its number", "placeOf(x, kind,", "placeOf(x, ARGV[8],", "ARGV is used by number"],
    ["an argument that is not used", "placeOf(x, kind, where, what)", "placeOf(x, kind, where)", "what is not used"],
    ["a code too many", "OK head |", "OK head | FULL |", "Returns FULL is documented, not used"],
    ["a code too few", " | EXPIRED", "", "Returns EXPIRED is used, not documented"],
    ["a code of load() too few", " | CORRUPT", "", "Returns CORRUPT is used, not documented"],
    ["another name of what is returned", "OK head", "OK tip", returns("OK tip | EXPIRED | NOT_FOUND | CORRUPT")],
    ["a key that is not there", "eight of base.lua", "eight of base.lua, 9 staging", "KEYS 9 is documented, not used"],
  ];
  test.each(lies)("%s", (_what, from, to, problem) => {
    expect(good).toContain(from);
    expect(problemsOf("mark-read", good.replace(from, to), lib)).toContain(problem);
  });

  test("an argument that hides a name of the libraries", () => {
    expect(problemsOf("mark-read", good, `${lib}\nlocal where = 1`)).toContain("where hides a name of the libraries");
  });
});
