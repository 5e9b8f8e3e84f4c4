import { readFileSync, readdirSync } from "node:fs";
import { posix } from "node:path";

import ts from "typescript";
import { describe, expect, test } from "vitest";

interface Layer {
  /** Folders and files of ours that it may import, from src/. */
  readonly ours: readonly string[];
  /** Packages; node: is open to all. */
  readonly vendors: readonly string[];
}

/** DESIGN.md, "Layout and direction": what may import what. One vendor a folder, and nobody imports the composition root. */
const layers: Readonly<Record<string, Layer>> = {
  "conversation/": { ours: ["conversation/"], vendors: [] },
  "redis/": { ours: ["redis/", "conversation/"], vendors: ["ioredis", "cluster-key-slot", "lru-cache"] },
  "langchain/": {
    ours: ["langchain/", "conversation/"],
    vendors: ["@langchain/*", "langchain", "js-tiktoken", "eventsource-parser"],
  },
  "graphql/": { ours: ["graphql/", "conversation/"], vendors: ["graphql", "@pothos/*"] },
  "transport/auth/": {
    ours: ["transport/auth/", "transport/identity.ts", "transport/logger.ts", "conversation/"],
    vendors: ["jose"],
  },
  "transport/": {
    ours: ["transport/", "graphql/", "conversation/"],
    vendors: ["graphql", "graphql-yoga", "@graphql-yoga/*", "graphql-ws", "lru-cache", "ws"],
  },
  "config-values.ts": { ours: [], vendors: ["zod"] },
  "config-auth.ts": { ours: ["config-values.ts"], vendors: ["zod"] },
  "config-redis.ts": { ours: ["config-values.ts"], vendors: ["zod"] },
  "config-queries.ts": { ours: ["config-values.ts"], vendors: ["zod"] },
  "config-limits.ts": { ours: ["config-values.ts"], vendors: ["zod"] },
  "config-tracing.ts": { ours: ["config-values.ts"], vendors: ["zod"] },
  "config-variables.ts": {
    ours: [
      "config-values.ts",
      "config-auth.ts",
      "config-limits.ts",
      "config-queries.ts",
      "config-redis.ts",
      "config-tracing.ts",
    ],
    vendors: ["zod"],
  },
  "config.ts": {
    ours: [
      "config-values.ts",
      "config-auth.ts",
      "config-limits.ts",
      "config-queries.ts",
      "config-redis.ts",
      "config-tracing.ts",
      "config-variables.ts",
    ],
    vendors: [],
  },
  "tracing/": { ours: ["tracing/", "conversation/"], vendors: ["@opentelemetry/*"] },
  "limit-options.ts": { ours: ["conversation/", "transport/limits/"], vendors: [] },
  "metrics.ts": { ours: ["conversation/"], vendors: ["prom-client"] },
  "logging.ts": { ours: ["config.ts"], vendors: ["pino", "pino-pretty"] },
  "banner.ts": { ours: [], vendors: [] },
  // As a library it takes a client, options and models as they are, so its types name them.
  "gateway-options.ts": {
    ours: [
      "conversation/",
      "graphql/limits.ts",
      "langchain/custom-model.ts",
      "limit-options.ts",
      "redis/connection.ts",
      "tracing/options.ts",
      "transport/auth/",
      "transport/logger.ts",
      "transport/persisted.ts",
    ],
    vendors: ["ioredis"],
  },
  "option-checks.ts": { ours: ["gateway-options.ts"], vendors: ["zod"] },
  "gateway.ts": {
    ours: [
      "option-checks.ts",
      "conversation/",
      "redis/",
      "langchain/",
      "graphql/",
      "transport/",
      "tracing/",
      "gateway-options.ts",
      "limit-options.ts",
      "metrics.ts",
    ],
    vendors: [],
  },
  "add-key.ts": { ours: ["transport/auth/", "conversation/"], vendors: [] },
  "progress.ts": { ours: [], vendors: [] },
  "hangup.ts": { ours: [], vendors: [] },
  "command-line.ts": { ours: ["add-key.ts"], vendors: [] },
  "data-commands.ts": { ours: ["gateway.ts", "progress.ts", "command-line.ts"], vendors: [] },
  "config-files.ts": { ours: ["config.ts", "add-key.ts"], vendors: [] },
  "redis-source.ts": {
    ours: ["gateway.ts", "gateway-options.ts", "config.ts", "config-redis.ts", "redis/refusal.ts"],
    vendors: [],
  },
  "main.ts": {
    ours: [
      "gateway.ts",
      "config.ts",
      "config-values.ts",
      "config-redis.ts",
      "logging.ts",
      "banner.ts",
      "progress.ts",
      "hangup.ts",
      "redis-source.ts",
      "tracing/options.ts",
      "add-key.ts",
      "command-line.ts",
      "config-files.ts",
      "data-commands.ts",
      "conversation/access.ts",
    ],
    vendors: [],
  },
};

const source = new URL("../../src/", import.meta.url);
const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => path.endsWith(".ts"));

/** A package, its parts, or (`@scope/*`) all packages of a scope. */
function matches(name: string, pattern: string): boolean {
  return name === pattern || name.startsWith(pattern.endsWith("/*") ? pattern.slice(0, -1) : `${pattern}/`);
}

function layerOf(file: string): Layer | null {
  return (
    Object.entries(layers).find(([name]) => (name.endsWith("/") ? file.startsWith(name) : file === name))?.[1] ?? null
  );
}

/** What a file may not import. Static, dynamic and type imports count alike. */
function wrongImports(file: string, text: string): string[] {
  const layer = layerOf(file);
  if (layer === null) return [`${file} belongs to no layer`];
  const names = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
  return names
    .filter((name) => {
      if (name.startsWith("node:")) return false;
      if (!name.startsWith(".")) return !layer.vendors.some((vendor) => matches(name, vendor));
      const target = posix.join(posix.dirname(file), name);
      return !layer.ours.some((own) => (own.endsWith("/") ? target.startsWith(own) : target === own));
    })
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

const textOf = (file: string) => readFileSync(new URL(file, source), "utf8");

describe("src/", () => {
  test("holds all layers", () => {
    const empty = Object.keys(layers).filter((name) => !files.some((file) => file.startsWith(name)));
    expect(empty).toEqual([]);
  });

  test("imports go one way, each vendor stays in its folder", () => {
    expect(files.flatMap((file) => wrongImports(file, textOf(file)))).toEqual([]);
  });

  test("main.ts alone reads the environment and hears signals", () => {
    const others = files.filter((file) => file !== "main.ts");
    expect(others.flatMap((file) => processUses(file, textOf(file)))).toEqual([]);
    expect(processUses("main.ts", textOf("main.ts"))).toContain("main.ts uses process.env");
  });
});

describe("the rules themselves", () => {
  test.each([
    ["conversation/turn.ts", 'import type { Store } from "../redis/store.ts";'],
    ["conversation/turn.ts", 'import { GraphQLError } from "graphql";'],
    ["redis/store.ts", 'export { chain } from "../langchain/chain.ts";'],
    ["redis/store.ts", 'const { z } = await import("zod");'],
    ["graphql/session.ts", 'import { createTransport } from "../transport/transport.ts";'],
    ["transport/http.ts", 'import { Redis } from "ioredis";'],
    ["transport/http.ts", 'import { jwtVerify } from "jose";'],
    ["transport/auth/jwt.ts", 'import { createOperations } from "../http.ts";'],
    ["langchain/chain.ts", 'import "../gateway.ts";'],
    ["stray.ts", ""],
  ])("%s may not hold %s", (file, text) => {
    expect(wrongImports(file, text)).toHaveLength(1);
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
