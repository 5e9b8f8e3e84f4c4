import { getIntrospectionQuery, getOperationAST, GraphQLError, Kind, validate } from "graphql";
import { describe, expect, test } from "vitest";

import { ParleyError } from "../../src/conversation/errors.ts";
import { checkCost, costOf, planCost } from "../../src/graphql/limits-cost.ts";
import type { QueryLimits } from "../../src/config/limits.ts";
import { parseBounded } from "../../src/graphql/limits.ts";
import { settle } from "../../src/options.ts";
import { schema } from "../../src/graphql/schema.ts";
import { graphiqlExamples } from "../../src/transport/http/pages/graphiql.ts";

/** What is wrong with it, or "". */
const { queryLimits: defaultQueryLimits } = settle({ redis: "redis://127.0.0.1:1" });

function problem(query: string, limits: Partial<QueryLimits> = {}): string {
  try {
    parseBounded(query, { ...defaultQueryLimits, ...limits });
    return "";
  } catch (error) {
    if (error instanceof ParleyError) return `${error.code}: ${error.message}`;
    if (error instanceof GraphQLError) return `syntax: ${error.message}`;
    throw error;
  }
}

function costOfQuery(query: string, variables: Readonly<Record<string, unknown>> = {}): number {
  const document = parseBounded(query, defaultQueryLimits);
  expect(validate(schema, document)).toEqual([]);
  const operation = getOperationAST(document);
  if (!operation) throw new Error("There is no operation.");
  return costOf(planCost(schema, document, operation), variables).values;
}

const nested = (open: string, depth: number, inner: string, close: string) =>
  open.repeat(depth) + inner + close.repeat(depth);

describe("what clients usually ask", () => {
  test.each([
    [
      "introspection",
      getIntrospectionQuery({
        specifiedByUrl: true,
        directiveIsRepeatable: true,
        schemaDescription: true,
        inputValueDeprecation: true,
        oneOf: true,
      }),
    ],
    ["GraphiQL's examples", graphiqlExamples],
    [
      "nested connections",
      `query Chats($sessions: Int!, $after: String) {
        sessions(first: $sessions, after: $after) {
          pageInfo { hasNextPage endCursor }
          edges { cursor node { id sessionId title ...Last } }
        }
      }
      fragment Last on Session {
        messages(last: 20) { edges { cursor node { id role text content { __typename ... on TextBlock { text } } run { id status } } } }
      }`,
    ],
  ])("%s is let through", (_name, query) => {
    expect(problem(query)).toBe("");
    const document = parseBounded(query, defaultQueryLimits);
    for (const operation of document.definitions.filter((one) => one.kind === Kind.OPERATION_DEFINITION)) {
      expect(() =>
        checkCost(planCost(schema, document, operation), { sessions: 20 }, defaultQueryLimits.maxCost),
      ).not.toThrow();
    }
  });
});

describe("each limit refuses what is above it, and lets through what meets it", () => {
  test.each<[string, Partial<QueryLimits>, string, string]>([
    ["tokens", { maxTokens: 5 }, "{ a b c }", "{ a b c d }"],
    ["depth", { maxDepth: 3 }, "{ a { b { c } } }", "{ a { b { c { d } } } }"],
    [
      "depth by fragments",
      { maxDepth: 3 },
      "{ ...A } fragment A on Q { a { b { c } } }",
      "{ z { ...A } } fragment A on Q { a { b { c } } }",
    ],
    ["depth by inline fragments", { maxDepth: 2 }, "{ ... { ... { a { b } } } }", "{ ... { a { ... { b { c } } } } }"],
    ["aliases", { maxAliases: 2 }, "{ a: x b: x }", "{ a: x b: x c { d: x } }"],
    [
      "aliases in fragments",
      { maxAliases: 2 },
      "{ ...A } fragment A on Q { a: x b: x }",
      "{ ...A } fragment A on Q { a: x ... { b: x c: x } }",
    ],
    ["directives", { maxDirectives: 2 }, "{ a @skip(if: false) @x b }", "query @x { a @skip(if: false) b @y }"],
    ["directives in variables", { maxDirectives: 1 }, "query ($a: Int @x) { a }", "query ($a: Int @x @y) { a }"],
    [
      "directives of fragments",
      { maxDirectives: 1 },
      "{ ...A @x } fragment A on Q { a }",
      "{ ...A @x } fragment A on Q @y { a }",
    ],
    ["fields at the top", { maxRootFields: 2 }, "{ a b { c d e } }", "mutation { a b c }"],
    [
      "fields at the top by fragments",
      { maxRootFields: 2 },
      "{ ...A } fragment A on Q { a b }",
      "{ ...A ... { ...A } } fragment A on Q { a b }",
    ],
    ["@defer", { maxDeferred: 1 }, "{ ... @defer { a } }", "{ ... @defer { a } ...A @defer } fragment A on Q { a }"],
  ])("%s", (_name, limits, meets, above) => {
    expect(problem(meets, limits)).toBe("");
    expect(problem(above, limits)).toMatch(/^TOO_COMPLEX: The (document|operation) /);
  });

  test("of several operations each is measured", () => {
    expect(problem("query A { a } query B { a { b } }", { maxDepth: 1 })).toContain("2 levels of fields");
  });

  test("what is no GraphQL stays a syntax error", () => {
    expect(problem("{ a")).toMatch(/^syntax: Syntax Error: Expected Name/);
    expect(problem(`${"#\n".repeat(1001)}{ a }`)).toContain(
      "syntax: Syntax Error: Document contains more than 1000 comments",
    );
  });
});

describe("what would end the stack, or take forever", () => {
  const deep = 20_000;
  test.each([
    ["selections", nested("{a", deep, "", "}")],
    ["inline fragments", nested("{...", deep, "{a}", "}")],
    ["lists", `{a(x:${nested("[", deep, "", "]")})}`],
    ["objects", `{a(x:${nested("{a:", deep, "1", "}")})}`],
    ["types", `query($a:${nested("[", deep, "Int", "]")}){a}`],
    ["brackets that never close", "{a".repeat(deep)],
    ["directives' arguments", `{a @x(a:${nested("[", deep, "", "]")})}`],
    ["fragments", `{...F0}${Array.from({ length: deep }, (_, at) => `fragment F${at} on Q{...F${at + 1}}`).join("")}`],
  ])("20,000 deep: %s", (_name, query) => {
    expect(problem(query)).toMatch(/^TOO_COMPLEX/);
    expect(problem(query, { maxTokens: 10_000_000 })).toMatch(/^TOO_COMPLEX: The document is nested/);
  });

  test.each([
    ["where the first is measured last", (at: number) => at],
    ["where the first is measured first", (at: number) => 400 - at],
  ])("a chain of fragments, %s", (_name, order) => {
    const chain = Array.from({ length: 400 }, (_, at) => order(at)).map((at) => `fragment F${at} on Q{...F${at + 1}}`);
    expect(problem(`${chain.join("")}{...F0}`, { maxTokens: 10_000 })).toContain("TOO_COMPLEX: The document is nested");
  });

  test("fragments that spread each other twice, fifty times", () => {
    const bomb = (fields: (next: string) => string) =>
      `{...F0}${Array.from({ length: 50 }, (_, at) => `fragment F${at} on Query{${fields(`...F${at + 1}`)}}`).join("")}fragment F50 on Query{viewer{subject}}`;
    expect(problem(bomb((next) => `${next} ${next}`))).toContain("fields at its top");
    expect(problem(bomb((next) => `a{${next}}b{${next}}`))).toContain("levels of fields");
  });

  test("a fragment that spreads itself is left to validation", () => {
    const document = parseBounded("{...A} fragment A on Query{...B} fragment B on Query{...A}", defaultQueryLimits);
    expect(validate(schema, document).map(({ message }) => message)).toEqual([
      'Cannot spread fragment "A" within itself via "B".',
    ]);
  });
});

describe("cost", () => {
  test("each field counts, and each item of a page with all that is below it", () => {
    expect(costOfQuery("{ viewer { subject scopes } }")).toBe(3);
    const list = (page: string) => `{ session(sessionId: "a") { messages${page} { nodes { id text } } } }`;
    // session, messages; then each message with its two fields.
    expect(costOfQuery(list("(first: 10)"))).toBe(2 + 10 * 3);
    expect(costOfQuery(list("(last: 200)"))).toBe(2 + 200 * 3);
    expect(costOfQuery(list(""))).toBe(2 + 50 * 3);
    expect(costOfQuery(list("(first: null, last: 7)"))).toBe(2 + 7 * 3);
    // The field itself refuses more than it gives, by another code.
    expect(costOfQuery(list("(first: 1000000)"))).toBe(2 + 200 * 3);
    expect(costOfQuery('{ session(sessionId: "a") { messages(first: 10) { pageInfo { endCursor } } } }')).toBe(4);
  });

  test("connections in connections multiply", () => {
    const inner = "messages(last: 50) { nodes { id } }";
    expect(costOfQuery(`{ sessions(first: 100) { nodes { ${inner} } } }`)).toBe(1 + 100 * (1 + 1 + 50 * 2));
    expect(costOfQuery(`{ sessions { edges { node { ${inner} } } } }`)).toBe(1 + 20 * (1 + 1 + 1 + 50 * 2));
  });

  test("variables count as what they hold, else as their default, else as the field's own", () => {
    const query = `query ($n: Int, $m: Int = 5) {
      sessions(first: $n) { ...S }
    }
    fragment S on SessionConnection { nodes { messages(last: $m) { nodes { id } } } }`;
    expect(costOfQuery(query, { n: 10, m: 3 })).toBe(1 + 10 * (1 + 1 + 3 * 2));
    expect(costOfQuery(query, { n: 10 })).toBe(1 + 10 * (1 + 1 + 5 * 2));
    expect(costOfQuery(query)).toBe(1 + 20 * (1 + 1 + 5 * 2));
    expect(costOfQuery(query, { n: null, m: null })).toBe(1 + 20 * (1 + 1 + 50 * 2));
    expect(costOfQuery(query, { n: -1, m: 1e9 })).toBe(1);
    expect(costOfQuery(query, { n: "a text is refused later", m: 1e9 })).toBe(1 + 20 * (1 + 1 + 200 * 2));
  });

  test("lists that are given are as long as they are given", () => {
    expect(costOfQuery('{ nodes(ids: ["a", "b", "c"]) { id } }')).toBe(3 * 2);
    expect(costOfQuery('{ nodes(ids: "a") { id } }')).toBe(2);
    const nodes = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    expect(costOfQuery(nodes, { ids: Array.from({ length: 40 }, String) })).toBe(40 * 2);
    const echoed = "{ messages { id } session { id } }";
    const add = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) ${echoed} }`;
    expect(costOfQuery(add, { input: { messages: Array.from({ length: 30 }, () => ({})) } })).toBe(1 + 30 * 2 + 2);
    const literal = 'input: { sessionId: "a", messages: [{ role: USER, text: "a" }, { role: USER, text: "b" }] }';
    expect(costOfQuery(`mutation { addMessages(${literal}) ${echoed} }`)).toBe(1 + 2 * 2 + 2);
    const parts =
      'mutation ($m: [MessageInput!]!) { addMessages(input: { sessionId: "a", messages: $m }) { messages { id } } }';
    expect(costOfQuery(parts, { m: [{}, {}, {}] })).toBe(1 + 3 * 2);
  });

  test("a fragment that is spread over and over costs each time, and is counted once", () => {
    const forks = (first: string) =>
      `${first === "$n" ? "query ($n: Int)" : ""} { session(sessionId: "a") { ...F0 } }${Array.from(
        { length: 9 },
        (_, at) =>
          `fragment F${at} on Session { a${at}: forkedFrom { ...F${at + 1} } b${at}: forkedFrom { ...F${at + 1} } }`,
      ).join("")} fragment F9 on Session { messages(first: ${first}) { nodes { id } } }`;
    const expected = 1 + 2 * (2 ** 9 - 1) + 2 ** 9 * (1 + 3 * 2);
    expect(costOfQuery(forks("3"))).toBe(expected);
    expect(costOfQuery(forks("$n"), { n: 3 })).toBe(expected);
  });

  test("deferred parts cost more", () => {
    expect(costOfQuery("{ viewer { ... @defer { subject } } }")).toBe(2 + 20);
  });

  test("above the budget it is TOO_COMPLEX", () => {
    const query = "query ($n: Int) { sessions(first: $n) { nodes { id } } }";
    const document = parseBounded(query, defaultQueryLimits);
    const operation = getOperationAST(document);
    if (!operation) throw new Error("There is no operation.");
    const plan = planCost(schema, document, operation);
    checkCost(plan, { n: 4 }, 10);
    expect(() => checkCost(plan, { n: 5 }, 10)).toThrow(
      "The operation asks for up to 11 values; at most 10 are given.",
    );
  });
});
