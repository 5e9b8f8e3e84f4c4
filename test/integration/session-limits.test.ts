import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import type { GatewayOptions } from "../../src/gateway.ts";
import { execute, refusal, request } from "../support/gateway/graphql-client.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

const create = `mutation ($id: String, $key: String) {
  createSession(input: { sessionId: $id, idempotencyKey: $key }) { session { sessionId } }
}`;
const send = `mutation ($id: String!) { sendMessage(input: { sessionId: $id, text: "x" }) { run { id } } }`;
const add = `mutation ($id: String!, $messageId: String) {
  addMessages(input: { sessionId: $id, messages: [{ role: USER, text: "x", messageId: $messageId }] }) { messages { id } }
}`;
const fork = `mutation ($id: String!, $to: String!) { forkSession(input: { sessionId: $id, newSessionId: $to }) { session { sessionId } } }`;
const remove = `mutation ($id: String!) { deleteSession(input: { sessionId: $id }) { deletedId } }`;
const reached = { code: "LIMIT_REACHED", limit: "sessions" };

describe("sessions of an owner", () => {
  let server: TestRedis;
  const gateways: TestGateway[] = [];

  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(async () => {
    await Promise.all(gateways.map((gateway) => gateway.close()));
    await server.stop();
  });

  async function start(options: Partial<GatewayOptions>): Promise<string> {
    await command(server, "FLUSHALL");
    const gateway = await startGateway({ redis: server.url, ...options });
    gateways.push(gateway);
    return gateway.url;
  }

  test("nothing starts a session beyond the limit; existing sessions go on, and a retry is answered", async () => {
    const url = await start({ maxSessionsPerOwner: 3 });
    await execute(url, create, { id: "a", key: "k" });
    await execute(url, send, { id: "b" });
    await execute(url, add, { id: "c", messageId: "m" });
    for (const [query, variables] of [
      [create, { id: "d" }],
      [send, { id: "d" }],
      [add, { id: "d" }],
      [fork, { id: "c", to: "d" }],
    ] as const) {
      expect((await refusal(url, query, variables)).extensions).toMatchObject(reached);
    }
    expect(await execute(url, `{ session(sessionId: "d") { id } }`)).toEqual({ session: null });
    expect(await command(server, "EXISTS", "d")).toBe(0);

    await execute(url, send, { id: "a" });
    await execute(url, add, { id: "c", messageId: "m" });
    expect(await execute(url, create, { id: "a", key: "k" })).toEqual({
      createSession: { session: { sessionId: "a" } },
    });
    expect((await refusal(url, create, { id: "a" })).extensions?.code).toBe("SESSION_EXISTS");
    await execute(url, remove, { id: "b" });
    await execute(url, fork, { id: "c", to: "d" });
    expect((await refusal(url, create, {})).extensions).toMatchObject(reached);
  });

  test.each([
    ["created", create],
    ["sent to", send],
    ["added to", add],
  ])("of many %s at the same time as many stand as may", async (_what, query) => {
    const url = await start({ maxSessionsPerOwner: 7 });
    const all = Array.from({ length: 60 }, (_, i) => request(url, query, { id: `s${i}` }));
    const answers = await Promise.all(all);
    expect(answers.filter(({ errors }) => errors === undefined)).toHaveLength(7);
    expect(await command(server, "ZCARD", "parley:sessions:anonymous")).toBe(7);
  });

  test("gateways on one Redis keep to it together", async () => {
    const urls = [await start({ maxSessionsPerOwner: 60 })];
    const second = await startGateway({ redis: server.url, maxSessionsPerOwner: 60 });
    gateways.push(second);
    urls.push(second.url);
    // One after the other, so that none is started in the same moment as another.
    let made = 0;
    for (let i = 0; i < 80; i++) {
      const { errors } = await request(urls[i % 2] ?? "", create, { id: `s${i}` });
      if (errors === undefined) made += 1;
      await waitUntil(
        "it is listed",
        async () => (await command(server, "ZCARD", "parley:sessions:anonymous")) === made,
      );
    }
    expect(made).toBe(60);
  });

  test("messages to one session at the limit are not mistaken for new sessions", async () => {
    const url = await start({ maxSessionsPerOwner: 2 });
    await execute(url, create, { id: "a" });
    const sent = Array.from({ length: 10 }, () => execute(url, add, { id: "a" }));
    await Promise.all([...sent, execute(url, create, { id: "b" })]);
    expect((await refusal(url, create, { id: "c" })).extensions).toMatchObject(reached);
  });
});

describe("sizes", () => {
  test("titles, metadata and messages have limits of their own", async () => {
    const server = await startRedis();
    const gateway = await startGateway({
      redis: server.url,
      maxTitleChars: 5,
      maxMetadataBytes: 20,
      maxMessagesPerAdd: 2,
      maxMessageChars: 10,
    });
    const { url } = gateway;
    const update = (input: string) => `mutation { createSession(input: { ${input} }) { session { id } } }`;
    const messages = (count: number) => Array.from({ length: count }, () => `{ role: USER, text: "x" }`).join(" ");
    const adding = (list: string) =>
      `mutation { addMessages(input: { sessionId: "s", messages: [${list}] }) { session { id } } }`;
    await execute(url, update(`title: "12345", metadata: { a: "45678901234" }`));
    await execute(url, adding(messages(2)));
    for (const [query, field] of [
      [update(`title: "123456"`), "input.title"],
      [update(`metadata: { a: "4567890123456" }`), "input.metadata"],
      [adding(messages(3)), "input.messages"],
      [adding(`{ role: USER, text: "12345678901" }`), "input.messages[0].text"],
      [adding(`{ role: USER, text: "1", name: "2345678901" }`), "input.messages[0].text"],
      [
        adding(`{ role: ASSISTANT, text: "1", toolCalls: [{ callId: "c", name: "f", args: {} }] }`),
        "input.messages[0].text",
      ],
      [adding(`{ role: USER, content: [${'{ text: "" }'.repeat(100)} { text: "1" }] }`), "input.messages[0].content"],
    ] as const) {
      expect((await refusal(url, query)).extensions).toEqual({ code: "BAD_USER_INPUT", field });
    }
    await gateway.close();
    await server.stop();
  });

  test("as many messages as may be added at once may be read back whole, whatever an operation may cost", async () => {
    const server = await startRedis();
    const usual = await startGateway({ redis: server.url });
    const larger = await startGateway({ redis: server.url, maxMessagesPerAdd: 10_000, maxBodyBytes: 4_000_000 });
    const whole = `id messageId position cursor role text toolCallId toolFailed name createdAt finishReason stored storedText
      content { __typename ... on TextBlock { text } ... on ImageBlock { url detail } ... on OtherBlock { type data } }
      toolCalls { callId name args } usage { inputTokens outputTokens totalTokens }
      session { id title } run { id status }`;
    const adding = (selection: string) => `mutation ($id: String!, $messages: [MessageInput!]!) {
      addMessages(input: { sessionId: $id, messages: $messages }) { messages { ${selection} } session { id } }
    }`;
    const messages = (count: number) => Array.from({ length: count }, (_, i) => ({ role: "USER", text: `${i}` }));
    type Added = { readonly addMessages: { readonly messages: readonly { readonly text: string }[] } };
    for (const [{ url }, count, id] of [
      [usual, 1000, "a"],
      [larger, 10_000, "b"],
    ] as const) {
      const { addMessages } = await execute<Added>(url, adding(whole), { id, messages: messages(count) });
      expect(addMessages.messages.map(({ text }) => text)).toEqual(messages(count).map(({ text }) => text));
      const many = { id, messages: messages(count + 1) };
      expect((await refusal(url, adding("text"), many)).extensions).toEqual({
        code: "BAD_USER_INPUT",
        field: "input.messages",
      });
    }
    // What it does not hold itself costs as ever, and of several only one is free.
    const pages = adding("session { messages(first: 200) { nodes { id } } }");
    const codeOf = async (query: string) =>
      (await refusal(usual.url, query, { id: "c", messages: messages(1000) })).extensions?.code;
    expect(await codeOf(pages)).toBe("TOO_COMPLEX");
    const twice = ["a", "b", "c"].map(
      (alias) => `${alias}: addMessages(input: { sessionId: $id, messages: $messages }) {
      messages { ${whole} }
    }`,
    );
    expect(await codeOf(`mutation ($id: String!, $messages: [MessageInput!]!) { ${twice.join(" ")} }`)).toBe(
      "TOO_COMPLEX",
    );
    await Promise.all([usual.close(), larger.close()]);
    await server.stop();
  });
});
