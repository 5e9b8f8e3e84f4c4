import { existsSync, readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";

import ts from "typescript";
import { describe, expect, test } from "vitest";

interface Layer {
  /** Folders and files of ours that it may import, from src/; its own folder always. */
  readonly ours: readonly string[];
  /** Packages; node: is open to all. */
  readonly vendors: readonly string[];
}

/** What may import what. The first name that fits a file counts. Few packages belong to more than one folder, and nobody imports the composition. */
const layers: Readonly<Record<string, Layer>> = {
  "conversation/": { ours: [], vendors: [] },
  "redis/": { ours: ["conversation/"], vendors: ["ioredis", "lru-cache"] },
  "embedded-redis/": { ours: [], vendors: ["ioredis"] },
  "langchain/": {
    ours: ["conversation/"],
    vendors: ["@langchain/*", "langchain", "@modelcontextprotocol/sdk", "js-tiktoken", "eventsource-parser", "undici"],
  },
  // For LangGraph programs beside the gateway: an entry of its own.
  "langgraph/": {
    ours: ["conversation/", "redis/", "options.ts"],
    vendors: ["@langchain/langgraph-checkpoint", "@langchain/core"],
  },
  "graphql/": { ours: ["conversation/", "config/limits.ts"], vendors: ["graphql", "@pothos/*"] },
  "operations/": {
    ours: ["graphql/", "conversation/", "config/limits.ts"],
    vendors: ["graphql", "graphql-yoga", "@graphql-yoga/*", "lru-cache"],
  },
  "transport/auth/": { ours: ["operations/", "conversation/", "config/auth.ts"], vendors: ["jose"] },
  "transport/": {
    ours: ["operations/", "graphql/", "conversation/", "config/limits.ts"],
    vendors: ["graphql", "@graphql-yoga/render-graphiql", "graphql-ws", "ws"],
  },
  "telemetry/logging.ts": { ours: ["config/"], vendors: ["pino", "pino-pretty"] },
  "telemetry/metrics.ts": { ours: ["conversation/ports/"], vendors: ["prom-client"] },
  "telemetry/gathered-metrics.ts": { ours: ["telemetry/metrics.ts"], vendors: ["prom-client"] },
  "telemetry/tracing/": { ours: ["conversation/ports/", "config/tracing.ts"], vendors: ["@opentelemetry/*"] },
  // As a library the gateway takes a client, options and models as they are, so its types name them.
  "options.ts": {
    ours: [
      ...[
        "config/",
        "conversation/message/json.ts",
        "langchain/models/custom-model.ts",
        "langchain/agents/agent-options.ts",
        "redis/client/connection.ts",
        "transport/auth/",
      ],
      ...["operations/logger.ts"],
    ],
    vendors: ["ioredis", "@langchain/core"],
  },
  "config/": { ours: [], vendors: ["zod"] },
  "gateway.ts": {
    ours: [
      ...["conversation/", "redis/", "embedded-redis/", "langchain/", "graphql/", "operations/", "transport/"],
      ...["telemetry/", "config/", "options.ts"],
    ],
    vendors: [],
  },
  "cli/": {
    ours: [
      ...["gateway.ts", "options.ts", "config/", "transport/auth/", "conversation/", "redis/client/refusal.ts"],
      ...["telemetry/", "embedded-redis/"],
      ...["langchain/agents/agent-options.ts", "langchain/agents/given-agents.ts"],
    ],
    vendors: [],
  },
  "main.ts": { ours: ["gateway.ts", "config/", "telemetry/", "cli/", "conversation/"], vendors: [] },
};

/** What does not hold yet. Lines only go from here. */
const allowed = {
  circles: [] as readonly string[],
  full: [] as readonly string[],
  long: [] as readonly string[],
};

const most = { filesInFolder: 16, linesInFile: 400 };

const root = new URL("../../", import.meta.url);
const filesBelow = (folder: string) =>
  readdirSync(new URL(folder, root), { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => posix.relative(new URL(root).pathname, posix.join(entry.parentPath, entry.name)));
const everything = [...filesBelow("src"), ...filesBelow("test/support")];
const files = everything.filter((path) => path.startsWith("src/") && path.endsWith(".ts")).map((path) => path.slice(4));
const textOf = (file: string) => readFileSync(new URL(`src/${file}`, root), "utf8");

/** A package, its parts, or (`@scope/*`) all packages of a scope. */
function matches(name: string, pattern: string): boolean {
  return name === pattern || name.startsWith(pattern.endsWith("/*") ? pattern.slice(0, -1) : `${pattern}/`);
}

function layerOf(file: string): (Layer & { readonly name: string }) | null {
  const found = Object.entries(layers).find(([name]) => isIn(file, name));
  return found === undefined ? null : { name: found[0], ...found[1] };
}

function isIn(file: string, layer: string): boolean {
  return layer.endsWith("/") ? file.startsWith(layer) : file === layer;
}

/** Static, dynamic and type imports count alike. */
function importsOf(text: string): readonly string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

function wrongImports(file: string, text: string): string[] {
  const layer = layerOf(file);
  if (layer === null) return [`${file} belongs to no layer`];
  return importsOf(text)
    .filter((name) => {
      if (name.startsWith("node:")) return false;
      if (!name.startsWith(".")) return !layer.vendors.some((vendor) => matches(name, vendor));
      const target = posix.join(posix.dirname(file), name);
      // package.json, which tells the version.
      return target.startsWith("..") ? false : ![layer.name, ...layer.ours].some((own) => isIn(target, own));
    })
    .map((name) => `${file} imports ${name}`);
}

/** Files that reach themselves by what they import, type imports included: each circle as one line. */
function circles(imports: ReadonlyMap<string, readonly string[]>): string[] {
  const reach = (from: string): Set<string> => {
    const seen = new Set<string>();
    const left = [...(imports.get(from) ?? [])];
    for (let file = left.pop(); file !== undefined; file = left.pop()) {
      if (seen.has(file)) continue;
      seen.add(file);
      left.push(...(imports.get(file) ?? []));
    }
    return seen;
  };
  const reached = new Map([...imports.keys()].map((file) => [file, reach(file)]));
  const inCircles = [...reached].filter(([file, others]) => others.has(file));
  const lines = inCircles.map(([file, others]) =>
    inCircles
      .filter(([other, back]) => others.has(other) && back.has(file))
      .map(([other]) => other)
      .sort()
      .join(" <-> "),
  );
  return [...new Set(lines)];
}

/** Each way to execute an operation that a file imports, whatever package it is of. */
function executorsIn(file: string, text: string): string[] {
  const names = ["execute", "executeSync", "subscribe", "createSourceEventStream", "graphql", "graphqlSync"];
  // Imports of types alone begin otherwise.
  return [...text.matchAll(/^import \{([^}]*)\}/gm)]
    .flatMap(([, list = ""]) => list.split(","))
    .map((one) => one.trim().split(" ")[0] ?? "")
    .filter((name) => names.includes(name))
    .map((name) => `${file} imports ${name}`);
}

/** Reading the environment or listening to the process belongs to main.ts: everything else is told. */
function processUses(file: string, text: string): string[] {
  const found: string[] = [];
  const forbidden = new Set(["env", "argv", "on", "once", "exit", "exitCode"]);
  const visit = (node: ts.Node): void => {
    const member = ts.isPropertyAccessExpression(node)
      ? node.name.text
      : ts.isElementAccessExpression(node) && ts.isStringLiteral(node.argumentExpression)
        ? node.argumentExpression.text
        : null;
    if (member !== null && forbidden.has(member)) {
      const { expression } = node as ts.PropertyAccessExpression | ts.ElementAccessExpression; // one of both, as above
      if (ts.isIdentifier(expression) && expression.text === "process") found.push(`${file} uses process.${member}`);
    }
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      if (/^(node:)?process$/.test(node.moduleSpecifier.text))
        found.push(`${file} imports ${node.moduleSpecifier.text}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true));
  return found;
}

describe("src/", () => {
  test("holds all layers", () => {
    const empty = Object.keys(layers).filter((name) => !files.some((file) => isIn(file, name)));
    expect(empty).toEqual([]);
  });

  test("imports go one way, each vendor stays in its folder", () => {
    expect(files.flatMap((file) => wrongImports(file, textOf(file)))).toEqual([]);
  });

  test("no file imports itself by way of others", () => {
    const imports = new Map(
      files.map((file) => [
        file,
        importsOf(textOf(file))
          .filter((name) => name.startsWith("."))
          .map((name) => posix.join(posix.dirname(file), name)),
      ]),
    );
    expect(circles(imports)).toEqual(allowed.circles);
  });

  test("operations/ alone executes operations", () => {
    const [inside, outside] = [true, false].map((is) =>
      files.filter((file) => isIn(file, "operations/") === is).flatMap((file) => executorsIn(file, textOf(file))),
    );
    expect(outside).toEqual([]);
    expect(inside).toContain("operations/operation.ts imports execute");
  });

  test("each file that a comment names is there", () => {
    const sources = everything.filter((path) => path.startsWith("src/"));
    const missing = sources.flatMap((path) => {
      const comments = readFileSync(new URL(path, root), "utf8").match(/(^| )(\/\/|\/?\*+|--) .*/gm) ?? [];
      const named = comments.flatMap((comment) => comment.match(/[\w./-]+\.(ts|lua)\b/g) ?? []);
      const isThere = (name: string) =>
        sources.some((one) => one.endsWith(`/${name}`)) || existsSync(new URL(name, root));
      return named.filter((name) => name !== "x.lua" && !isThere(name)).map((name) => `${path} names ${name}`);
    });
    expect(missing).toEqual([]);
  });

  test("main.ts alone reads the environment and hears signals", () => {
    const others = files.filter((file) => file !== "main.ts");
    expect(others.flatMap((file) => processUses(file, textOf(file)))).toEqual([]);
    expect(processUses("main.ts", textOf("main.ts"))).toContain("main.ts uses process.env");
  });
});

describe("src/ and test/support/", () => {
  test(`no folder holds more than ${most.filesInFolder} files`, () => {
    const counts = Map.groupBy(everything, (path) => posix.dirname(path));
    const full = [...counts].filter(([, inside]) => inside.length > most.filesInFolder).map(([folder]) => folder);
    expect(full).toEqual(allowed.full);
  });

  test(`no file has more than ${most.linesInFile} lines`, () => {
    const lines = (path: string) => readFileSync(new URL(path, root), "utf8").split("\n").length - 1;
    expect(everything.filter((path) => lines(path) > most.linesInFile)).toEqual(allowed.long);
  });
});

describe("the rules themselves", () => {
  test.each([
    ["conversation/turn.ts", 'import type { Store } from "../redis/store.ts";'],
    ["conversation/turn.ts", 'import { GraphQLError } from "graphql";'],
    ["redis/store.ts", 'export { chain } from "../langchain/chain.ts";'],
    ["redis/store.ts", 'const { z } = await import("zod");'],
    ["graphql/session.ts", 'import { createTransport } from "../transport/transport.ts";'],
    ["graphql/session.ts", 'import { Documents } from "../operations/documents.ts";'],
    ["operations/documents.ts", 'import { origins } from "../transport/http/origins.ts";'],
    ["transport/http.ts", 'import { Redis } from "ioredis";'],
    ["transport/http.ts", 'import { jwtVerify } from "jose";'],
    ["transport/auth/jwt.ts", 'import { createOperations } from "../http.ts";'],
    ["langchain/chain.ts", 'import "../gateway.ts";'],
    ["embedded-redis/find.ts", 'import "../redis/client/connection.ts";'],
    ["stray.ts", ""],
  ])("%s may not hold %s", (file, text) => {
    expect(wrongImports(file, text)).toHaveLength(1);
  });

  test.each([
    ['import { execute } from "graphql";', 1],
    ['import { parse, subscribe as follow } from "graphql";', 1],
    ['import type { execute } from "graphql";', 0],
    ['import { parse, type execute } from "graphql";', 0],
  ])("%s imports %i ways to execute", (text, count) => {
    expect(executorsIn("transport/http.ts", text)).toHaveLength(count);
  });

  test("a circle is found once, whoever begins it", () => {
    const imports = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["a", "d"]],
      ["d", []],
    ]);
    expect(circles(imports)).toEqual(["a <-> b <-> c"]);
  });

  test.each([
    'process.env["X"];',
    'process["env"];',
    'process.once("SIGTERM", stop);',
    'import { env } from "node:process";',
  ])("%s is seen", (text) => {
    expect(processUses("redis/store.ts", text)).toHaveLength(1);
  });
});
