import { describe, expect, test } from "vitest";
import {
  libraries,
  plainScripts,
  readScript,
  scriptText,
  sessionScripts,
  textNames,
} from "../../src/redis/scripts/texts.ts";

// A script is a function with a contract: its header says purpose, KEYS, ARGV and every code that it returns. Here the
// header is held against the body.

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

/** Everything wrong with a script's header; `lib` is the library in front of it, "" for a script without. */
function problemsOf(text: string, lib: string): readonly string[] {
  const contract = contractOf(text);
  const problems: string[] = [];
  if (!/^[A-Z][^]*\.$/.test(contract.purpose)) problems.push("The purpose is not a sentence");
  const own = lib === "" ? 1 : libArguments.length + 1;
  problems.push(...keyProblems(contract, lib), ...argumentProblems(contract, own), ...codeProblems(contract, lib));
  return problems;
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

function argumentProblems({ arguments: header, body }: Contract, first: number): readonly string[] {
  const documented = numbersIn(header);
  const used = indexes(body, "ARGV").filter((index) => index >= first);
  const problems = [...difference("ARGV", documented, used)];
  documented.forEach((index, i) => {
    if (index !== first + i) problems.push(`ARGV ${index} is documented out of order`);
  });
  if (documented.length === 0 && header !== "none of its own") problems.push("ARGV says nothing");
  // What repeats starts right behind what is numbered, and the header announces it.
  const starts = [...body.matchAll(/for i = (\d+), [^\n]*do[^\n]*(?:\n[^\n]*)?ARGV\[i|ARGV\[(\d+) \+ i \* \d+\]/g)];
  const start = starts.length === 0 ? null : Math.min(...starts.map((found) => Number(found[1] ?? found[2])));
  const open = /\bthen\b/.test(header);
  if (open !== (start !== null))
    problems.push(open ? "ARGV repeats in the header only" : "ARGV repeats in the body only");
  if (start !== null && start !== first + documented.length) problems.push(`ARGV repeats from ${start} on`);
  return problems;
}

function codeProblems({ returns, body }: Contract, lib: string): readonly string[] {
  const alternatives = returns.replaceAll(/\([^)]*\)/g, "").split("|");
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

/** The numbers that items of a list begin with: "8 run id, 9 token" holds 8 and 9. */
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
const sessionNames = Object.keys(sessionScripts);
const plainNames = Object.keys(plainScripts);

test("each script has a file, and each file is a script", () => {
  expect([...textNames].sort()).toEqual([...libraries, "place", "quota", ...sessionNames, ...plainNames].sort());
});

describe("a script's header tells its body", () => {
  test.each(sessionNames)("%s", (name) => {
    expect(problemsOf(readScript(name), lib)).toEqual([]);
  });
  test.each(plainNames)("%s", (name) => {
    expect(problemsOf(readScript(name), "")).toEqual([]);
  });
});

test("the library documents the keys and arguments that it takes", () => {
  const contract = contractOf(lib);
  expect(numbersIn(contract.keys.replace("events (channel).", "events (channel),"))).toEqual(libKeys);
  expect(numbersIn(contract.arguments)).toEqual(libArguments);
  expect([...new Set(indexes(contract.body, "KEYS"))].sort()).toEqual(libKeys);
  const scripts = sessionNames.map((name) => contractOf(readScript(name)).body);
  const used = new Set([contract.body, ...scripts].flatMap((body) => indexes(body, "ARGV")));
  expect(libArguments.filter((index) => !used.has(index))).toEqual([]);
  expect(Math.max(...indexes(contract.body, "ARGV"))).toBe(libArguments.length);
});

test("each script declares its keys to Redis, and only those that free, note or read may run on a full server", () => {
  for (const [name, effect] of Object.entries(sessionScripts)) {
    const [shebang = ""] = scriptText(name as keyof typeof sessionScripts).split("\n"); // keys of the table itself
    expect(shebang).toMatch(/^#!lua\b/);
    expect(/no-writes|allow-oom/.test(shebang), name).toBe(effect !== "writes");
  }
});

describe("a header that lies is found", () => {
  const good = readScript("mark-read");
  const lies: readonly (readonly [string, string, string, string])[] = [
    ["an argument too many", "10 mark", "10 mark, 11 colour", "ARGV 11 is documented, not used"],
    ["an argument too few", ", 10 mark", "", "ARGV 10 is used, not documented"],
    ["a code too many", "OK head |", "OK head | FULL |", "Returns FULL is documented, not used"],
    ["a code too few", " | EXPIRED", "", "Returns EXPIRED is used, not documented"],
    ["a code of load() too few", " | CORRUPT", "", "Returns CORRUPT is used, not documented"],
    ["a key that is not there", "eight of base.lua", "eight of base.lua, 9 staging", "KEYS 9 is documented, not used"],
    ["repeated arguments", "10 mark", "10 mark, then more", "ARGV repeats in the header only"],
  ];
  test.each(lies)("%s", (_what, from, to, problem) => {
    expect(good).toContain(from);
    expect(problemsOf(good.replace(from, to), lib)).toContain(problem);
  });
});
