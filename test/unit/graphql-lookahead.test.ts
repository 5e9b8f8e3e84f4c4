import { describe, expect, test } from "vitest";

import type { PageRequest } from "../../src/conversation/session.ts";
import { FakeConversations, noted, runningRun, stored } from "../support/store/fake-conversations.ts";
import { contextOf, operate } from "../support/gateway/graphql-operation.ts";

const usual: PageRequest = { first: null, after: null, last: 50, before: null };
const page = (changes: Partial<PageRequest>): PageRequest => ({ ...usual, last: null, ...changes });

function conversation(): FakeConversations {
  const fake = new FakeConversations();
  fake.put("jim", [stored("human", "Hi! I'm Jim."), stored("ai", "Hello, Jim."), stored("human", "Who am I?")]);
  return fake;
}

/** The pages that the one reading of `jim` was asked for. */
async function pagesAsked(document: string, variables: Readonly<Record<string, unknown>> = {}) {
  const fake = conversation();
  const { errors } = await operate(contextOf(fake), document, variables);
  expect(errors).toEqual([]);
  const readings = fake.callsOf("readSession");
  expect(readings).toHaveLength(1);
  return readings[0]?.[2].pages;
}

describe("the pages that a reading is asked for", () => {
  test("none where no messages are selected", async () => {
    expect(await pagesAsked(`{ session(sessionId: "jim") { messageCount cursor } }`)).toEqual([]);
  });

  test("the last 50 where neither first nor last is given", async () => {
    expect(await pagesAsked(`{ session(sessionId: "jim") { messages { nodes { text } } } }`)).toEqual([usual]);
  });

  test("each of several aliases, the same page once", async () => {
    const asked = await pagesAsked(`{
      session(sessionId: "jim") {
        head: messages(first: 1) { nodes { text } }
        again: messages(first: 1) { nodes { position } }
        tail: messages(last: 2) { nodes { text } }
      }
    }`);
    expect(asked).toEqual([page({ first: 1 }), page({ last: 2 })]);
  });

  test("through fragments, named, inline and nested, with variables", async () => {
    const asked = await pagesAsked(
      `query ($first: Int, $last: Int = 3) {
        session(sessionId: "jim") { ...Outer ... on Session { messages(first: $first) { nodes { text } } } }
      }
      fragment Outer on Session { id ...Inner }
      fragment Inner on Session { tail: messages(last: $last) { nodes { text } } }`,
      { first: 2 },
    );
    expect(asked).toEqual([page({ last: 3 }), page({ first: 2 })]);
  });

  test("not what @skip and @include leave out, by variables too", async () => {
    const asked = await pagesAsked(
      `query ($no: Boolean!, $yes: Boolean!) {
        session(sessionId: "jim") {
          a: messages(first: 1) @skip(if: $yes) { nodes { text } }
          b: messages(first: 2) @include(if: $no) { nodes { text } }
          c: messages(first: 3) @include(if: $yes) @skip(if: $no) { nodes { text } }
          ...F @include(if: $no)
        }
      }
      fragment F on Session { messages(first: 4) { nodes { text } } }`,
      { no: false, yes: true },
    );
    expect(asked).toEqual([page({ first: 3 })]);
  });

  test("also inside @defer", async () => {
    const asked = await pagesAsked(`{
      session(sessionId: "jim") { id ... @defer { messages(last: 7) { nodes { text } } } }
    }`);
    expect(asked).toEqual([page({ last: 7 })]);
  });

  test("of the way back to the session, through its messages and runs", async () => {
    const fake = new FakeConversations();
    const run = runningRun("jim");
    fake.put("jim", [noted("jim", 0, "m1", run.runId)], { activeRun: run, lastRun: run });
    const document = `{
      session(sessionId: "jim") {
        messages(first: 9) { nodes { session { cursor messages(last: 8) { nodes { id } } } run { status } } }
        activeRun { session { messages(first: 7) { nodes { id } } } }
      }
    }`;
    const { data, errors } = await operate(contextOf(fake), document);
    expect(errors).toEqual([]);
    expect(fake.callsOf("readSession").map(([, , read]) => read.pages)).toEqual([
      [page({ first: 9 }), page({ last: 8 }), page({ first: 7 })],
    ]);
    expect(fake.callsOf("readRun")).toEqual([]);
    expect(data).toMatchObject({ session: { messages: { nodes: [{ run: { status: "RUNNING" } }] } } });
  });

  test("of one session asked for twice: one reading, with the pages of both", async () => {
    const asked = await pagesAsked(`{
      a: session(sessionId: "jim") { messages(first: 1) { nodes { text } } }
      b: session(sessionId: "jim") { messages(last: 1) { nodes { text } } }
    }`);
    expect(asked).toEqual([page({ first: 1 }), page({ last: 1 })]);
  });

  test("not those of another session", async () => {
    const fake = conversation();
    fake.put("ann", [], { forkedFrom: "jim" });
    const document = `{
      session(sessionId: "ann") { messages(first: 1) { nodes { id } } forkedFrom { messages(last: 2) { nodes { text } } } }
      other: session(sessionId: "none") { messages(first: 6) { nodes { id } } }
    }`;
    const { data, errors } = await operate(contextOf(fake), document);
    expect(errors).toEqual([]);
    const asked = fake.callsOf("readSession").map(([, id, read]) => [id, read.pages] as const);
    expect(new Map(asked)).toEqual(
      new Map([
        ["ann", [page({ first: 1 })]],
        ["none", [page({ first: 6 })]],
        ["jim", [page({ last: 2 })]],
      ]),
    );
    expect(data).toMatchObject({ session: { forkedFrom: { messages: { nodes: [{}, {}] } } }, other: null });
  });

  test("of each session in a list, by its edges and by its nodes", async () => {
    const fake = conversation();
    const document = `{
      sessions {
        nodes { a: messages(last: 1) { nodes { text } } }
        edges { node { b: messages(first: 1) { nodes { text } } } }
      }
    }`;
    const { data } = await operate(contextOf(fake), document);
    expect(fake.callsOf("listSessions").map(([, , , read]) => read.pages)).toEqual([
      [page({ last: 1 }), page({ first: 1 })],
    ]);
    expect(fake.callsOf("readSession")).toEqual([]);
    expect(data).toEqual({
      sessions: {
        nodes: [{ a: { nodes: [{ text: "Who am I?" }] } }],
        edges: [{ node: { b: { nodes: [{ text: "Hi! I'm Jim." }] } } }],
      },
    });
  });

  test("of a mutation's session, on the ways by which it is selected", async () => {
    const fake = conversation();
    const document = `mutation {
      sendMessage(input: { sessionId: "jim", text: "hi" }) {
        session { messages(last: 1) { nodes { text } } }
        run { session { messages(last: 2) { nodes { text } } } }
      }
    }`;
    const { errors } = await operate(contextOf(fake), document);
    expect(errors).toEqual([]);
    expect(fake.callsOf("sendMessage").map(([, , read]) => read?.pages)).toEqual([
      [page({ last: 1 }), page({ last: 2 })],
    ]);
    expect(fake.callsOf("readSession")).toEqual([]);
  });

  test("in time that does not grow with how often fragments spread each other", async () => {
    const fragments = Array.from(
      { length: 40 },
      (_, i) =>
        `fragment F${i} on Session { activeRun { session { ...F${i + 1} } } lastRun { session { ...F${i + 1} } } }`,
    );
    const document = `{ session(sessionId: "jim") { ...F0 } }
      ${fragments.join("\n")}
      fragment F40 on Session { messages(first: 5) { nodes { id } } }`;
    expect(await pagesAsked(document)).toEqual([page({ first: 5 })]);
  });
});

describe("a page", () => {
  const texts = `nodes { text position }`;

  test("is found by its arguments, whatever order pages were asked for in", async () => {
    const { data } = await operate(
      contextOf(conversation()),
      `{ session(sessionId: "jim") { tail: messages(last: 1) { ${texts} } head: messages(first: 1) { ${texts} } } }`,
    );
    expect(data).toEqual({
      session: {
        tail: { nodes: [{ text: "Who am I?", position: 2 }] },
        head: { nodes: [{ text: "Hi! I'm Jim.", position: 0 }] },
      },
    });
  });

  test("gives its edges' cursors, and goes on from them", async () => {
    const fake = conversation();
    const connection = `edges { cursor node { cursor } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }`;
    const first = await operate(
      contextOf(fake),
      `{ session(sessionId: "jim") { messages(first: 2) { ${connection} } } }`,
    );
    const found = first.data as { session: { messages: { edges: { cursor: string; node: { cursor: string } }[] } } };
    const cursors = found.session.messages.edges.map(({ cursor }) => cursor);
    expect(cursors).toEqual(found.session.messages.edges.map(({ node }) => node.cursor));
    expect(first.data).toMatchObject({
      session: {
        messages: {
          pageInfo: { hasNextPage: true, hasPreviousPage: false, startCursor: cursors[0], endCursor: cursors[1] },
        },
      },
    });
    const rest = await operate(
      contextOf(fake),
      `query ($after: String) { session(sessionId: "jim") { messages(first: 2, after: $after) { ${texts} } } }`,
      { after: cursors[1] },
    );
    expect(rest.data).toEqual({ session: { messages: { nodes: [{ text: "Who am I?", position: 2 }] } } });
  });

  test("whose cursor is none is an error of that field", async () => {
    const { errors } = await operate(
      contextOf(conversation()),
      `{ session(sessionId: "jim") { id messages(first: 1, after: "nonsense") { nodes { id } } } }`,
    );
    expect(errors).toMatchObject([{ code: "INVALID_CURSOR", path: ["session", "messages"] }]);
  });

  test.each([
    ["first: 0", "first"],
    ["first: -1", "first"],
    ["last: 0", "last"],
    ["first: 201", "first"],
    ["last: 201", "last"],
    ["first: 1, last: 1", "last"],
  ])("with %s is refused by name, and not the whole reading", async (args, field) => {
    const fake = conversation();
    const { errors } = await operate(
      contextOf(fake),
      `mutation { updateSession(input: { sessionId: "jim" }) { session { messages(${args}) { nodes { id } } } } }`,
    );
    expect(errors).toMatchObject([{ code: "BAD_USER_INPUT", field, path: ["updateSession", "session", "messages"] }]);
    expect(fake.callsOf("updateSession")).toHaveLength(1);
  });

  test("of sessions has 20 of them, and refuses more than 100", async () => {
    const fake = conversation();
    await operate(contextOf(fake), `{ sessions { nodes { id } } }`);
    expect(fake.callsOf("listSessions")[0]?.[1]).toEqual({ first: 20, after: null, last: null, before: null });
    const { errors } = await operate(contextOf(fake), `{ sessions(last: 101) { nodes { id } } }`);
    expect(errors).toMatchObject([{ code: "BAD_USER_INPUT", field: "last" }]);
  });
});
