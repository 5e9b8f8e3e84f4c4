import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GraphQLError } from "graphql";
import { describe, expect, onTestFinished, test } from "vitest";
import { defaultSettings } from "../support/gateway/transport-server.ts";
import { schema } from "../../src/graphql/schema.ts";
import { checkedList, PersistedOperationsError, readPersistedList } from "../../src/operations/persisted-list.ts";
import { persistedOperations, sha256Of } from "../../src/operations/documents.ts";
import type { DocumentReference, PersistedOperations } from "../../src/operations/documents.ts";

const query = "{ viewer { subject } }";
const sha256 = sha256Of(query);
const other = "{ models { name } }";

/** The text, or status and code of the refusal; `forgiven`: 200 for who asks for application/json. */
function resolved(persisted: PersistedOperations, reference: DocumentReference): unknown {
  try {
    return persisted.resolve(reference);
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    const { code, http } = error.extensions;
    return [http?.status, code, http?.spec === true ? "forgiven" : error.message];
  }
}

const apq = (sha256Hash: unknown, version: unknown = 1) => ({ persistedQuery: { version, sha256Hash } });
const notFound = [400, "PERSISTED_QUERY_NOT_FOUND", "forgiven"];
const noQuery = [400, "BAD_REQUEST", "`query` must be a string: the GraphQL document."];

test("sha256Of is the hash that clients send", () => {
  expect(sha256Of("{ hello }")).toBe("001c3174e099bd72b729d0c0a529ba9f5a740c446e2a6e1d71b283cb84ec3065");
});

describe("auto", () => {
  test("a hash is not known until it came with its text, and is then", () => {
    const persisted = persistedOperations("auto", new Map());
    expect(resolved(persisted, { extensions: apq(sha256) })).toEqual(notFound);
    expect(resolved(persisted, { query: "", extensions: apq(sha256) })).toEqual(notFound);
    expect(resolved(persisted, { query, extensions: apq(sha256) })).toBe(query);
    expect(resolved(persisted, { extensions: apq(sha256) })).toBe(query);
    expect(resolved(persisted, { query: null, extensions: apq(sha256) })).toBe(query);
    expect(resolved(persisted, { documentId: `sha256:${sha256}` })).toBe(query);
    expect(resolved(persisted, { doc_id: sha256 })).toBe(query);
  });

  test("a text is never registered under the hash of another text", () => {
    const persisted = persistedOperations("auto", new Map());
    const refused = [400, "BAD_REQUEST", "provided sha does not match query"];
    expect(resolved(persisted, { query: other, extensions: apq(sha256) })).toEqual(refused);
    expect(resolved(persisted, { query, extensions: apq(sha256) })).toBe(query);
    expect(resolved(persisted, { query: other, extensions: apq(sha256) })).toEqual(refused);
    expect(resolved(persisted, { extensions: apq(sha256) })).toBe(query);
  });

  test("a text without a hash is executed; a request without either is a bad request", () => {
    const persisted = persistedOperations("auto", new Map());
    expect(resolved(persisted, { query, id: "ignored" })).toBe(query);
    expect(resolved(persisted, {})).toEqual(noQuery);
    expect(resolved(persisted, { query: 1 })).toEqual(noQuery);
    expect(resolved(persisted, { documentId: 1 })).toEqual(noQuery);
    expect(resolved(persisted, { documentId: "x" })).toEqual([
      400,
      "PERSISTED_QUERY_NOT_FOUND",
      "There is no document of this id here: send its text.",
    ]);
  });

  test.each([[apq(sha256, 2)], [apq(1)], [{ persistedQuery: "x" }], [{ persistedQuery: {} }]])(
    "%j is not the protocol",
    (extensions) => {
      const persisted = persistedOperations("auto", new Map());
      expect(resolved(persisted, { query, extensions })).toEqual([
        400,
        "BAD_REQUEST",
        "Unsupported persisted query version: give version 1 and a sha256Hash.",
      ]);
    },
  );

  test("what clients register is bounded by its size; the list is not forgotten", () => {
    const persisted = persistedOperations("auto", new Map([["Listed", other]]), 100_000);
    expect(resolved(persisted, { query, extensions: apq(sha256) })).toBe(query);
    const texts = Array.from({ length: 50 }, (_, at) => `{ hello } # ${"x".repeat(1000)} ${at}`);
    for (const text of texts) expect(resolved(persisted, { query: text, extensions: apq(sha256Of(text)) })).toBe(text);
    expect(resolved(persisted, { extensions: apq(sha256) })).toEqual(notFound);
    expect(resolved(persisted, { extensions: apq(sha256Of(texts[49] ?? "")) })).toBe(texts[49]);
    const long = `{ hello } # ${"x".repeat(50_000)}`;
    expect(resolved(persisted, { query: long, extensions: apq(sha256Of(long)) })).toBe(long);
    expect(resolved(persisted, { extensions: apq(sha256Of(long)) })).toEqual(notFound);
    expect(resolved(persisted, { documentId: "Listed" })).toBe(other);
  });
});

test("off: operations sent as text are answered, hashes are refused as not supported", () => {
  const persisted = persistedOperations("off", new Map());
  const notSupported = [400, "PERSISTED_QUERY_NOT_SUPPORTED", "forgiven"];
  expect(resolved(persisted, { query })).toBe(query);
  expect(resolved(persisted, { query, extensions: apq(sha256) })).toBe(query);
  expect(resolved(persisted, { extensions: apq(sha256) })).toEqual(notSupported);
  expect(resolved(persisted, { documentId: sha256 })).toEqual(notSupported);
  expect(resolved(persisted, {})).toEqual(noQuery);
});

test("only: listed operations are answered by id, hash or text, and no others", () => {
  const persisted = persistedOperations(
    "only",
    new Map([
      ["Who", query],
      [sha256, query],
    ]),
  );
  const refused = [
    400,
    "PERSISTED_QUERY_NOT_FOUND",
    "This operation is not on the list of this gateway, and no other is answered.",
  ];
  for (const reference of [
    { documentId: "Who" },
    { documentId: `sha256:${sha256}` },
    { id: "Who" },
    { extensions: apq(sha256) },
    { extensions: apq("Who") },
    { query },
    // Apollo's link for WebSockets sends the text beside the hash, printed in its own way.
    { query: "{ viewer{subject} }", extensions: apq(sha256) },
  ]) {
    expect(resolved(persisted, reference)).toBe(query);
  }
  for (const reference of [
    { query: other },
    { query: `${query} ` },
    { query: other, extensions: apq(sha256Of(other)) },
    { extensions: apq(sha256Of(other)) },
    { documentId: "__proto__" },
    { id: "constructor" },
  ]) {
    expect(resolved(persisted, reference)).toEqual(refused);
  }
  expect(resolved(persisted, {})).toEqual(noQuery);
});

describe("a list", () => {
  const checks = { schema, limits: defaultSettings.queryLimits, introspection: false };
  const problemOf = (list: unknown, changes: Partial<typeof checks> = {}) => {
    try {
      checkedList(list, { ...checks, ...changes });
      return "";
    } catch (error) {
      if (error instanceof PersistedOperationsError) return error.message;
      throw error;
    }
  };

  test("as relay-compiler and graphql-codegen write it: by id, and found by its hash too", () => {
    expect([...checkedList({ a1: query, b2: other }, checks)]).toEqual([
      ["a1", query],
      ["b2", other],
      [sha256, query],
      [sha256Of(other), other],
    ]);
  });

  test("as Apollo's manifest", () => {
    const manifest = {
      format: "apollo-persisted-query-manifest",
      version: 1,
      operations: [{ id: sha256, name: "Who", type: "query", body: query }],
    };
    expect([...checkedList(manifest, checks)]).toEqual([[sha256, query]]);
  });

  test("all mistakes are reported together, each by the name of its operation", () => {
    const list = {
      good: query,
      syntax: "{ viewer",
      field: "{ vieewer { subject } models { nme } }",
      introspection: "{ __schema { queryType { name } } }",
      cost: "{ sessions(first: 100) { nodes { messages(first: 200) { nodes { id role text } } } } }",
      depth: `{ ${"viewer { ".repeat(30)}subject${" }".repeat(30)} }`,
    };
    const lines = problemOf(list).split("\n");
    expect(lines[0]).toBe("The list of persisted operations has mistakes:");
    expect(lines.slice(1).map((line) => line.replace(/[.;,] .*/, ""))).toEqual([
      "  syntax: Syntax Error: Expected Name",
      '  field: Cannot query field "vieewer" on type "Query"',
      '  field: Cannot query field "nme" on type "Model"',
      "  introspection: GraphQL introspection has been disabled",
      "  introspection: GraphQL introspection has been disabled",
      "  cost: The operation asks for up to 80201 values",
      "  depth: The operation has 31 levels of fields",
    ]);
    expect(problemOf({ introspection: list.introspection }, { introspection: true })).toBe("");
  });

  test.each([
    [[], "The list must be an object: documents by their id, or Apollo's manifest."],
    [{ a: 1 }, "The list's document a must be a text."],
    [{ operations: [{ id: "a" }] }, "The list's operations[0] must have an id and a body."],
    [
      {
        operations: [
          { id: "a", name: "A", body: query },
          { id: "a", name: "B", body: other },
        ],
      },
      "The list of persisted operations has mistakes:\n  B: there is another document with this id.",
    ],
  ])("%j is none", (list, problem) => {
    expect(problemOf(list)).toBe(problem);
  });

  test("from a file", async () => {
    const folder = await mkdtemp(join(tmpdir(), "parley-list-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const file = join(folder, "list.json");
    await expect(readPersistedList(file, checks)).rejects.toThrow(`cannot be read: ${file} (ENOENT).`);
    await writeFile(file, "{");
    await expect(readPersistedList(file, checks)).rejects.toThrow("is no JSON");
    await writeFile(file, JSON.stringify({ Who: query }));
    expect((await readPersistedList(file, checks)).get("Who")).toBe(query);
  });
});
