import { readFileSync } from "node:fs";

import {
  buildSchema,
  getNamedType,
  isCompositeType,
  isUnionType,
  Kind,
  parse,
  print,
  printSchema,
  validate,
  visit,
} from "graphql";
import type { ASTNode, DefinitionNode, DocumentNode } from "graphql";
import { describe, expect, test } from "vitest";

import { schema } from "../../src/graphql/schema.ts";

const printed = `${printSchema(schema)}\n`;
const target = parse(readFileSync(new URL("../golden/schema.target.graphql", import.meta.url), "utf8"));
/** What the target says in a comment: Relay connections. */
const connections = parse(`
  type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
  type MessageConnection { edges: [MessageEdge!]! nodes: [Message!]! pageInfo: PageInfo! }
  type MessageEdge { cursor: String! node: Message! }
  type SessionConnection { edges: [SessionEdge!]! nodes: [Session!]! pageInfo: PageInfo! }
  type SessionEdge { cursor: String! node: Session! }
`);

/** Each part of a contract on a line of its own: "Type.field(arg) : Type! = default". */
function facts(document: DocumentNode): readonly string[] {
  return document.definitions.flatMap(factsOf);
}

function factsOf(definition: DefinitionNode): readonly string[] {
  switch (definition.kind) {
    case Kind.SCALAR_TYPE_DEFINITION:
      return [`scalar ${definition.name.value}`];
    case Kind.ENUM_TYPE_DEFINITION:
      return (definition.values ?? []).map((value) => `enum ${definition.name.value} ${value.name.value}`);
    case Kind.UNION_TYPE_DEFINITION:
      return (definition.types ?? []).map((member) => `union ${definition.name.value} ${member.name.value}`);
    case Kind.INPUT_OBJECT_TYPE_DEFINITION:
      return [
        ...(definition.directives ?? []).map((directive) => `input ${definition.name.value} ${print(directive)}`),
        ...(definition.fields ?? []).map((field) => {
          const value = field.defaultValue === undefined ? "" : ` = ${print(field.defaultValue)}`;
          return `input ${definition.name.value}.${field.name.value}: ${print(field.type)}${value}`;
        }),
      ];
    case Kind.INTERFACE_TYPE_DEFINITION:
    case Kind.OBJECT_TYPE_DEFINITION: {
      const name = definition.name.value;
      return [
        ...(definition.interfaces ?? []).map((implemented) => `type ${name} implements ${implemented.name.value}`),
        ...(definition.fields ?? []).flatMap((field) => [
          `type ${name}.${field.name.value}: ${print(field.type)}`,
          ...(field.arguments ?? []).map((argument) => {
            const value = argument.defaultValue === undefined ? "" : ` = ${print(argument.defaultValue)}`;
            return `type ${name}.${field.name.value}(${argument.name.value}: ${print(argument.type)}${value})`;
          }),
        ]),
      ];
    }
    case Kind.DIRECTIVE_DEFINITION:
      return [`directive ${definition.name.value}`];
    default:
      throw new Error(`The target has a ${definition.kind}, which this test does not know.`);
  }
}

describe("the contract", () => {
  const ours = new Set(facts(parse(printed)));

  test("holds all of the target, under the same names, nullabilities and defaults", () => {
    const wanted = facts(target);
    expect(wanted.length).toBeGreaterThan(250);
    expect(wanted.filter((fact) => !ours.has(fact))).toEqual([]);
  });

  test("has Relay's connections with nothing nullable in them but a page's end cursors", () => {
    expect(facts(connections).filter((fact) => !ours.has(fact))).toEqual([]);
  });

  test("asks for no argument or input that the target does not ask for", () => {
    const required = (fact: string): boolean => /^(?:input .*|.*\(.*): [^=]*!\)?$/.test(fact);
    const wanted = new Set(facts(target));
    expect([...ours].filter((fact) => required(fact) && !wanted.has(fact))).toEqual([]);
  });

  test("calls nothing `id` that is not a node's global id", () => {
    const nodes = ["type Node.id: ID!", "type Session.id: ID!", "type Message.id: ID!", "type Run.id: ID!"];
    expect([...ours].filter((fact) => /\.id:/.test(fact)).sort()).toEqual(nodes.sort());
  });

  test("describes every type, field, argument, input and enum value", () => {
    const nameless: string[] = [];
    const check = (node: ASTNode & { description?: { value: string } | undefined; name: { value: string } }) => {
      if (!node.description?.value.trim()) nameless.push(`${node.kind} ${node.name.value}`);
    };
    let seen = 0;
    visit(parse(printed), {
      enter(node) {
        if (!("description" in node) || !("name" in node)) return;
        seen += 1;
        check({ ...node, name: node.name });
      },
    });
    expect(seen).toBeGreaterThan(300);
    expect(nameless).toEqual([]);
  });

  test("is what schema.graphql says (else: npm run schema)", () => {
    expect(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8")).toBe(printed);
  });

  test("can be built again from its text", () => {
    expect(printSchema(buildSchema(printed))).toBe(printSchema(schema));
  });
});

test("one document selects every field of every member of a union, without aliases", () => {
  const unions = Object.values(schema.getTypeMap()).filter(isUnionType);
  expect(unions.map(({ name }) => name).sort()).toEqual(["ContentBlock", "RunPart", "SessionChange", "SessionEvent"]);
  for (const union of unions) {
    const members = union.getTypes().map((member) => {
      const fields = Object.values(member.getFields()).map(({ name, type }) =>
        isCompositeType(getNamedType(type)) ? `${name} { __typename }` : name,
      );
      return `... on ${member.name} { ${fields.join(" ")} }`;
    });
    const document = parse(`fragment All on ${union.name} { ${members.join(" ")} }`);
    const problems = validate(schema, document).map(({ message }) => message);
    expect(problems).toEqual(['Fragment "All" is never used.']);
  }
});
