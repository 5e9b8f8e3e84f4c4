import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventsOf, follow, isRunEnd, readRun, send } from "../support/gateway/conversation.ts";
import { textOf } from "../support/store/feeds.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, request, subscribe, type Collector } from "../support/gateway/graphql-client.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, must } from "../support/store/store.ts";

let server: TestRedis;
let openai: OpenAIServer;
let gateways: readonly TestGateway[];
const opened: { close(): void }[] = [];

beforeAll(async () => {
  server = await startRedis();
  openai = await startOpenAI();
  const options = {
    redis: server.url,
    model: "openai:test",
    openai: { apiKey: "test", baseUrl: openai.baseUrl },
    redisCommandTimeoutMs: 500,
    feedCheckMs: 1000,
  };
  gateways = await Promise.all([startGateway(options), startGateway(options)]);
});

afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.close()));
  await Promise.all([server.stop(), openai.close()]);
});

function url(i = 0): string {
  return must(gateways[i % gateways.length]).url;
}

const add = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { messages { position } } }`;

/** Adds one message, again and again with the same key until it is acknowledged. */
async function addOne(to: string, sessionId: string, text: string): Promise<void> {
  const input = { sessionId, messages: [{ role: "USER", text }], idempotencyKey: text };
  await waitUntil(`${text} is acknowledged`, async () => {
    const { errors } = await request(to, add, { input });
    const [error] = errors ?? [];
    if (error !== undefined) expect(error.extensions?.code).toBe("STORE_UNAVAILABLE");
    return error === undefined;
  });
}

interface Added {
  readonly position: number;
  readonly cursor: string;
  readonly text: string;
}

function listen(to: string, sessionId: string, after: string): Collector<Added> {
  const query = `subscription ($sessionId: String!, $after: String) {
    messageAdded(sessionId: $sessionId, after: $after) { position cursor text }
  }`;
  const collector = subscribe<Added>(to, query, { sessionId, after });
  opened.push(collector);
  return collector;
}

/** As a client does that is refused, since Redis did not answer in time: it opens again. */
async function opening<T>(open: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await open();
    } catch (error) {
      if (!String(error).includes("STORE_UNAVAILABLE")) throw error;
    }
  }
}

/** As a client on a bad network: leaves after some messages, and comes back, anywhere, with the last cursor it has. */
async function comeAndGo(sessionId: string, isOver: (count: number) => boolean): Promise<readonly Added[]> {
  const got: Added[] = [];
  for (let i = 0; !isOver(got.length); i++) {
    const before = got.length;
    const collector = listen(url(i), sessionId, got.at(-1)?.cursor ?? "");
    await waitUntil("some messages, or a refusal", () =>
      Promise.resolve(collector.ended || collector.events.length >= 23 || isOver(before + collector.events.length)),
    );
    collector.close();
    if (collector.error) expect(collector.error.extensions?.code).toBe("STORE_UNAVAILABLE");
    got.push(...collector.events);
  }
  return got;
}

async function storedTexts(key: string): Promise<readonly string[]> {
  const redis = new Redis(server.url);
  try {
    return (await redis.lrange(key, 0, -1)).reverse().map(textOf);
  } finally {
    redis.disconnect();
  }
}

test("500 messages of 5 writers while Redis is killed twice: everyone has each once, in the list's order (P3)", async () => {
  const key = "five writers";
  await addOne(url(), key, "first");
  const acknowledged: string[] = [];
  const killedAfter = [130, 330];
  let killing: Promise<void> = Promise.resolve();
  const note = (text: string) => {
    acknowledged.push(text);
    if (acknowledged.length !== killedAfter[0]) return;
    killedAfter.shift();
    killing = server.kill().then(() => server.restart());
  };

  const gatewayWriter = async (name: string, to: string) => {
    for (let i = 0; i < 100; i++) {
      await addOne(to, key, `${name}${i}`);
      note(`${name}${i}`);
    }
  };
  const foreignWriter = async () => {
    // LangChain's own push: nothing tells a lost answer from a lost push, so each attempt has a text of its own.
    const redis = new Redis(server.url, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 });
    redis.on("error", () => undefined);
    for (let i = 0, attempt = 0; i < 100; attempt++) {
      const text = `e${i} ${attempt}`;
      try {
        await redis.lpush(key, foreignRow(text));
      } catch {
        continue;
      }
      note(text);
      i++;
      // As fast as the others, who make a request for each.
      await waitUntil("the others are as far", () => Promise.resolve(acknowledged.length >= i * 5 - 5));
    }
    redis.disconnect();
  };

  let end = Infinity;
  // Whoever stays is there before the first kill: one that opens while Redis is away is refused, and opens again.
  const stay = async (to: string) => {
    const collector = listen(to, key, "");
    await collector.waitForCount(1);
    return collector;
  };
  const staying = await Promise.all([url(0), url(1), url(1)].map((to) => opening(() => stay(to))));
  const events = await Promise.all([url(0), url(1)].map((to) => opening(() => follow(to, key, ""))));
  opened.push(...events);
  const moving = [comeAndGo(key, (count) => count >= end), comeAndGo(key, (count) => count >= end)];

  const writers = ["a", "b", "c", "d"].map((name, i) => gatewayWriter(name, url(i)));
  await Promise.all([...writers, foreignWriter()]);
  await killing;
  expect(killedAfter).toEqual([]);

  const stored = await storedTexts(key);
  end = stored.length;
  expect(new Set(stored).size).toBe(stored.length);
  expect(acknowledged.filter((text) => !stored.includes(text))).toEqual([]);
  expect(stored.filter((text) => /^[abcd]/.test(text)).sort()).toEqual(
    acknowledged.filter((text) => /^[abcd]/.test(text)).sort(),
  );

  for (const collector of staying) {
    await collector.waitForCount(stored.length);
    expect(collector.events.map(({ text }) => text)).toEqual(stored);
    expect(collector.events.map(({ position }) => position)).toEqual(stored.map((_, i) => i));
  }
  for (const stream of events) {
    await stream.waitForCount(stored.length, ({ __typename }) => __typename === "MessageAdded");
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => message.text)).toEqual(stored);
    expect(eventsOf(stream, "HistoryReset")).toEqual([]);
  }
  for (const got of await Promise.all(moving)) expect(got.map(({ text }) => text)).toEqual(stored);
});

describe("while Redis is away", () => {
  test("requests get STORE_UNAVAILABLE in bounded time, subscriptions stay open and go on without a gap", async () => {
    await addOne(url(), "away", "before");
    const stream = await follow(url(0), "away");
    opened.push(stream);
    const messages = listen(url(1), "away", "");
    await messages.waitForCount(1);
    await server.kill();
    // Longer than what the connections keep: nobody waits for these any more when Redis is back.
    for (let round = 0; round < 10; round++) {
      const input = { sessionId: "away", messages: [{ role: "USER", text: `nobody ${round}` }] };
      const since = performance.now();
      const refused = await Promise.all([
        refusal(url(0), add, { input }),
        refusal(url(1), `{ session(sessionId: "away") { messageCount } }`),
        refusal(url(0), `{ sessions { nodes { sessionId } } }`),
        refusal(url(1), `mutation { sendMessage(input: { sessionId: "away", text: "nobody" }) { run { id } } }`),
      ]);
      expect(performance.now() - since).toBeLessThan(10_000);
      for (const { extensions } of refused) {
        expect(extensions).toMatchObject({ code: "STORE_UNAVAILABLE", retryAfterSeconds: 1 });
      }
    }
    const late = subscribe<Added>(url(0), `subscription { messageAdded(sessionId: "away") { text } }`);
    await late.waitForEnd();
    expect(late.error?.extensions?.code).toBe("STORE_UNAVAILABLE");
    expect([stream.ended, messages.ended]).toEqual([false, false]);

    await server.restart();
    // What still waits in a gateway's connection goes before it.
    await addOne(url(0), "away", "back");
    await addOne(url(1), "away", "after");
    await messages.waitFor(({ text }) => text === "after");
    await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "after");
    const stored = await storedTexts("away");
    expect(messages.events.map(({ text }) => text)).toEqual(stored);
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => message.text)).toEqual(stored.slice(1));
    // Of the writes that were given up, those of the last moments at most.
    expect(stored.length).toBeLessThan(12);
  });

  test("a reply goes on, and its text has neither gap nor double (P6)", async () => {
    const tokens = Array.from({ length: 40 }, (_, i) => `<${i} ${"𝄞".repeat(i % 3)}>`);
    openai.next({ kind: "gated", tokens });
    const { run } = await send(url(0), "reply", "Count");
    const here = await follow(url(0), "reply");
    const there = await follow(url(1), "reply");
    opened.push(here, there);
    openai.release(10);
    const text = (stream: typeof here) => {
      let whole = "";
      const opening = must(eventsOf(stream, "StreamOpened")[0]).session.activeRun?.text ?? "";
      whole += opening;
      for (const event of eventsOf(stream, "ReplyProgress")) {
        expect(event.offset).toBe(whole.length);
        whole += event.text;
      }
      return whole;
    };
    const first = tokens.slice(0, 10).join("");
    await waitUntil("the first tokens", () => Promise.resolve([here, there].every((one) => text(one) === first)));
    await server.kill();
    openai.release(10);
    await refusal(url(1), `{ session(sessionId: "reply") { messageCount } }`);
    openai.release(10);
    await server.restart();
    openai.release(11);
    for (const stream of [here, there]) await stream.waitFor(isRunEnd(run.id));
    const whole = tokens.join("");
    for (const stream of [here, there]) {
      expect(text(stream)).toBe(whole);
      expect(eventsOf(stream, "RunChanged").at(-1)?.run).toMatchObject({ status: "COMPLETED", text: whole });
      expect(
        eventsOf(stream, "MessageAdded")
          .map(({ message }) => message.text)
          .at(-1),
      ).toBe(whole);
      expect(eventsOf(stream, "HistoryReset")).toEqual([]);
    }
    expect((await readRun(url(1), run.id))?.reply?.text).toBe(whole);
    expect(await storedTexts("reply")).toEqual(["Count", whole]);
  });

  test("a reply that ends while Redis is away is stored when it is back", async () => {
    openai.next({ kind: "gated", tokens: ["All ", "of ", "it."] });
    const { run } = await send(url(0), "ends", "Say it");
    const stream = await follow(url(1), "ends");
    opened.push(stream);
    openai.release(1);
    await stream.waitFor(({ __typename }) => __typename === "ReplyProgress");
    await server.kill();
    openai.release(3);
    await refusal(url(0), `{ session(sessionId: "ends") { messageCount } }`);
    await server.restart();
    await stream.waitFor(isRunEnd(run.id));
    expect((await readRun(url(0), run.id))?.status).toBe("COMPLETED");
    expect(await storedTexts("ends")).toEqual(["Say it", "All of it."]);
  });

  test("a sidebar hears of what came about meanwhile", async () => {
    const query = `subscription { sessionChanged {
      __typename
      ... on SessionAdded { session { sessionId messageCount } }
      ... on SessionUpdated { session { sessionId messageCount } }
      ... on SessionRemoved { sessionId }
    } }`;
    type Change = {
      readonly __typename: string;
      readonly session?: { readonly sessionId: string; readonly messageCount: number };
    };
    await addOne(url(0), "listed", "one");
    const changes = subscribe<Change>(url(0), query);
    opened.push(changes);
    await changes.waitFor(({ __typename }) => __typename === "SessionListOpened");
    await server.restart();
    await addOne(url(1), "listed", "two");
    await addOne(url(1), "unlisted", "one");
    await changes.waitFor(({ session }) => session?.sessionId === "listed" && session.messageCount === 2);
    await changes.waitFor(({ session }) => session?.sessionId === "unlisted");
    await execute(url(1), `mutation { deleteSession(input: { sessionId: "unlisted" }) { sessionId } }`);
    await changes.waitFor(({ __typename }) => __typename === "SessionRemoved");
  });
});
