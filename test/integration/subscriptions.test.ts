import { get, type IncomingMessage } from "node:http";
import { once } from "node:events";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addMessages, eventsOf, follow } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, request, subscribe } from "../support/gateway/graphql-client.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { commandsOf } from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, must } from "../support/store/store.ts";

let server: TestRedis;
let redis: Redis;
let openai: OpenAIServer;
let one: TestGateway;
let two: TestGateway;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  openai = await startOpenAI();
  const options = {
    redis: server.url,
    model: "openai:test",
    openai: { apiKey: "test", baseUrl: openai.baseUrl },
  };
  [one, two] = await Promise.all([startGateway(options), startGateway(options)]);
});

afterAll(async () => {
  await Promise.all([one.close(), two.close()]);
  redis.disconnect();
  await Promise.all([server.stop(), openai.close()]);
});

async function add(sessionId: string, ...texts: readonly string[]): Promise<void> {
  await addMessages(
    one.url,
    sessionId,
    texts.map((text) => ({ role: "USER", text })),
  );
}

const messageAdded = `subscription ($sessionId: String!, $after: String) {
  messageAdded(sessionId: $sessionId, after: $after) { text cursor position }
}`;

interface Added {
  readonly text: string;
  readonly cursor: string;
  readonly position: number;
}

describe("over WebSocket", () => {
  test("messageAdded goes on behind a cursor, on another gateway", async () => {
    await add("ws", "a", "b");
    const first = subscribe<Added>(one.url, messageAdded, { sessionId: "ws", after: "" });
    await first.waitForCount(2);
    first.close();
    await add("ws", "c");
    await redis.lpush("ws", foreignRow("d"));
    const second = subscribe<Added>(two.url, messageAdded, { sessionId: "ws", after: must(first.events[1]).cursor });
    await add("ws", "e");
    await second.waitForCount(3);
    expect(second.events.map(({ text, position }) => [text, position])).toEqual([
      ["c", 2],
      ["d", 3],
      ["e", 4],
    ]);
    second.close();
  });

  test("messageAdded ends with CURSOR_EXPIRED at a reset, and does not begin from a stale cursor", async () => {
    await add("reset", "a", "b");
    const stream = subscribe<Added>(one.url, messageAdded, { sessionId: "reset", after: "" });
    await stream.waitForCount(2);
    await execute(two.url, `mutation { clearHistory(input: { sessionId: "reset" }) { session { id } } }`);
    await stream.waitForEnd();
    expect(stream.error?.extensions?.code).toBe("CURSOR_EXPIRED");
    const { cursor } = must(stream.events[1]);
    const stale = subscribe<Added>(two.url, messageAdded, { sessionId: "reset", after: cursor });
    await stale.waitForEnd();
    expect(stale.error?.extensions?.code).toBe("CURSOR_EXPIRED");
    const events = await follow(two.url, "reset", cursor);
    await events.waitFor(({ __typename }) => __typename === "HistoryReset");
    // Who is cut off before the reset hears of it all the same.
    expect(eventsOf(events, "StreamOpened")[0]?.cursor).toBe(cursor);
    const [reset] = eventsOf(events, "HistoryReset");
    expect(reset).toMatchObject({ kept: 0, session: { messageCount: 0 } });
    await add("reset", "anew");
    await events.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "anew");
    const resumed = subscribe<Added>(one.url, messageAdded, { sessionId: "reset", after: must(reset).cursor });
    await resumed.waitForCount(1);
    expect(resumed.events[0]).toMatchObject({ text: "anew", position: 0 });
    events.close();
    resumed.close();
  });

  test("the end of a session: SessionRemoved, and NOT_FOUND for messageAdded", async () => {
    await add("gone", "a");
    const messages = subscribe<Added>(one.url, messageAdded, { sessionId: "gone" });
    const events = await follow(two.url, "gone");
    await waitUntil("both listen", async () => (await channels("gone")) === 2);
    await execute(two.url, `mutation { deleteSession(input: { sessionId: "gone" }) { sessionId } }`);
    await messages.waitForEnd();
    await events.waitForEnd();
    expect(messages.error?.extensions?.code).toBe("NOT_FOUND");
    expect(events.error).toBeNull();
    expect(events.events.at(-1)).toMatchObject({ __typename: "SessionRemoved", sessionId: "gone" });
    const refused = messageAdded.replace("after: $after", "after: $after, ifMissing: REFUSE");
    const none = subscribe<Added>(one.url, refused, { sessionId: "gone" });
    await none.waitForEnd();
    expect(none.error?.extensions?.code).toBe("NOT_FOUND");
    const nonsense = subscribe<Added>(one.url, messageAdded, { sessionId: "ws", after: "nonsense" });
    await nonsense.waitForEnd();
    expect(nonsense.error?.extensions?.code).toBe("INVALID_CURSOR");
  });

  test("what an event selects of the session is read once for all subscribers with the same selection", async () => {
    const document = `subscription ($sessionId: String!) {
      sessionEvents(sessionId: $sessionId) { __typename ... on SessionUpdated { session { title } } } }`;
    const gateway = await startGateway({ redis: server.url, feedCheckMs: 600_000 });
    await add("titles", "a");
    const streams = Array.from({ length: 30 }, () => subscribe(gateway.url, document, { sessionId: "titles" }));
    await Promise.all(streams.map((stream) => stream.waitForCount(1)));
    const counts = await commandsOf(redis, async () => {
      const input = { sessionId: "titles", title: "Cats" };
      await execute(
        two.url,
        `mutation ($input: UpdateSessionInput!) { updateSession(input: $input) { session { id } } }`,
        {
          input,
        },
      );
      await Promise.all(streams.map((stream) => stream.waitForCount(2)));
    });
    for (const { events } of streams) {
      expect(events).toEqual([
        { __typename: "StreamOpened" },
        { __typename: "SessionUpdated", session: { title: "Cats" } },
      ]);
    }
    // A script reads the record by it: the mutation, its answer, and this reading. Each subscriber by itself would make 30 more.
    expect(counts.get("hgetall")).toBeLessThan(15);
    await gateway.close();
  });

  test("a subscription that is completed or cut off leaves nothing in memory", async () => {
    await add("left", "a");
    const streams = Array.from({ length: 20 }, (_, i) =>
      subscribe<Added>([one.url, two.url][i % 2] ?? "", messageAdded, { sessionId: "left" }),
    );
    await waitUntil("both gateways listen", async () => (await channels("left")) === 2);
    for (const stream of streams) stream.close();
    await waitUntil("nobody listens", async () => (await channels("left")) === 0);
  });
});

async function channels(sessionId: string): Promise<number> {
  const [, count] = await redis.pubsub("NUMSUB", `__keyspace@0__:${sessionId}`);
  return Number(count);
}

interface AddedData {
  readonly messageAdded: Added;
}

interface ServerEvent {
  readonly id: string | null;
  readonly event: string;
  readonly data: string;
}

/** An EventSource that can be cut off anywhere. */
class EventStream<Data> {
  readonly events: ServerEvent[] = [];
  /** What clients resume from: the newest id that came, with an event or without. */
  lastId: string | null = null;
  readonly #asked: ReturnType<typeof get>;
  #text = "";
  #ended = false;

  constructor(url: string, query: string, variables: object, lastEventId: string | null) {
    const parameters = new URLSearchParams({ query, variables: JSON.stringify(variables) });
    const headers = { accept: "text/event-stream", ...(lastEventId === null ? {} : { "last-event-id": lastEventId }) };
    this.#asked = get(`${url}?${parameters.toString()}`, { headers });
    this.#asked.on("error", () => undefined);
    this.#read().catch(() => (this.#ended = true));
  }

  get ended(): boolean {
    return this.#ended;
  }

  get data(): readonly Data[] {
    // What the test's document selects.
    return this.events.flatMap(({ event, data }) =>
      event === "next" ? [(JSON.parse(data) as { data: Data }).data] : [],
    );
  }

  async untilCount(count: number): Promise<void> {
    await waitUntil(`${count} events`, () => Promise.resolve(this.data.length >= count));
  }

  cut(): void {
    this.#asked.destroy();
  }

  async #read(): Promise<void> {
    const [response] = (await once(this.#asked, "response")) as [IncomingMessage]; // node:http's event
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      this.#text += chunk;
      const blocks = this.#text.split("\n\n");
      this.#text = blocks.pop() ?? "";
      for (const block of blocks) {
        const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1] ?? null;
        const event = field("event");
        this.lastId = field("id") ?? this.lastId;
        if (event !== null) this.events.push({ id: field("id"), event, data: field("data") ?? "" });
      }
    });
    response.on("error", () => undefined);
    response.on("close", () => (this.#ended = true));
  }
}

describe("over SSE", () => {
  test("messageAdded: each event's id resumes behind it, whatever `after` the URL repeats", async () => {
    await add("sse", "a", "b", "c");
    const variables = { sessionId: "sse", after: "" };
    const first = new EventStream<AddedData>(one.url, messageAdded, variables, null);
    await first.untilCount(3);
    expect(first.events.map(({ id }) => id)).toEqual(first.data.map((data) => data.messageAdded.cursor));
    first.cut();
    await add("sse", "d");
    await redis.lpush("sse", foreignRow("e"));
    const second = new EventStream<AddedData>(two.url, messageAdded, variables, first.lastId);
    await second.untilCount(2);
    await add("sse", "f");
    await second.untilCount(3);
    expect(second.data.map((data) => data.messageAdded.text)).toEqual(["d", "e", "f"]);
    second.cut();
    const middle = new EventStream<AddedData>(two.url, messageAdded, variables, must(first.events[0]).id);
    await middle.untilCount(5);
    expect(middle.data.map((data) => data.messageAdded.text)).toEqual(["b", "c", "d", "e", "f"]);
    middle.cut();
  });

  test("messageAdded from now on: cut off before its first message, it resumes from where it began", async () => {
    await add("sse quiet", "a");
    const first = new EventStream<AddedData>(one.url, messageAdded, { sessionId: "sse quiet" }, null);
    await waitUntil("it has an id", () => Promise.resolve(first.lastId !== null));
    first.cut();
    await add("sse quiet", "b");
    const second = new EventStream<AddedData>(two.url, messageAdded, { sessionId: "sse quiet" }, first.lastId);
    await add("sse quiet", "c");
    await second.untilCount(2);
    expect(second.data.map((data) => data.messageAdded.text)).toEqual(["b", "c"]);
    second.cut();
  });

  test("a subscription to a session that does not exist yet, cut off while it waits, resumes in front of the first message", async () => {
    const variables = { sessionId: "sse new" };
    const first = new EventStream<AddedData>(one.url, messageAdded, variables, null);
    await waitUntil("an id to resume from", () => Promise.resolve(first.lastId !== null));
    first.cut();
    await add("sse new", "a", "b");
    // As a browser does: the same URL, which says nothing of `after`.
    const second = new EventStream<AddedData>(two.url, messageAdded, variables, first.lastId);
    await second.untilCount(2);
    await add("sse new", "c");
    await second.untilCount(3);
    expect(second.data.map((data) => data.messageAdded.text)).toEqual(["a", "b", "c"]);
    second.cut();
  });

  test("sessionEvents: resumed in the midst of a reply there is neither gap nor double", async () => {
    const document = `subscription ($sessionId: String!) {
      sessionEvents(sessionId: $sessionId) {
        __typename
        ... on StreamOpened { cursor session { activeRun { text } } }
        ... on MessageAdded { message { text cursor } }
        ... on ReplyProgress { offset text }
        ... on RunChanged { run { status } }
      }
    }`;
    interface Event {
      readonly __typename: string;
      readonly cursor?: string;
      readonly session?: { readonly activeRun: { readonly text: string } | null };
      readonly message?: { readonly text: string; readonly cursor: string };
      readonly text?: string;
      readonly offset?: number;
      readonly run?: { readonly status: string };
    }
    const events = (stream: EventStream<{ readonly sessionEvents: Event }>) =>
      stream.data.map((data) => data.sessionEvents);
    const replyIn = (stream: EventStream<{ readonly sessionEvents: Event }>) => {
      let text = events(stream)[0]?.session?.activeRun?.text ?? "";
      for (const event of events(stream)) {
        if (event.__typename !== "ReplyProgress") continue;
        expect(event.offset).toBe(text.length);
        text += event.text ?? "";
      }
      return text;
    };
    await add("sse talk", "before");
    const first = new EventStream<{ readonly sessionEvents: Event }>(
      one.url,
      document,
      { sessionId: "sse talk" },
      null,
    );
    await first.untilCount(1);
    expect(first.events[0]?.id).toBe(must(events(first)[0]).cursor);
    openai.next({ kind: "gated", tokens: ["One ", "two ", "three ", "four"] });
    await execute(two.url, `mutation { sendMessage(input: { sessionId: "sse talk", text: "Count" }) { run { id } } }`);
    openai.release(2);
    await waitUntil("some text", () => Promise.resolve(replyIn(first) === "One two "));
    first.cut();
    // Text and a run's state have no place of their own: they leave the newest message's.
    expect(first.lastId).toBe(must(events(first).find(({ message }) => message?.text === "Count")?.message).cursor);

    const second = new EventStream<{ readonly sessionEvents: Event }>(
      two.url,
      document,
      { sessionId: "sse talk" },
      first.lastId,
    );
    await second.untilCount(1);
    expect(events(second)[0]?.session?.activeRun?.text).toBe("One two ");
    openai.release(3);
    await waitUntil("the end", () => Promise.resolve(events(second).some(({ run }) => run?.status === "COMPLETED")));
    expect(replyIn(second)).toBe("One two three four");
    expect(events(second).flatMap(({ message }) => message?.text ?? [])).toEqual(["One two three four"]);
    second.cut();
  });

  test("a stale or foreign id is refused like such an `after`", async () => {
    await add("sse stale", "a");
    const first = new EventStream<AddedData>(one.url, messageAdded, { sessionId: "sse stale", after: "" }, null);
    await first.untilCount(1);
    first.cut();
    await redis.del("sse stale");
    for (const [id, code] of [
      [must(first.lastId), "CURSOR_EXPIRED"],
      ["nonsense", "INVALID_CURSOR"],
    ] as const) {
      const stream = new EventStream<AddedData>(one.url, messageAdded, { sessionId: "sse stale" }, id);
      await waitUntil("the end", () => Promise.resolve(stream.ended));
      const codes = stream.events.flatMap(({ data }) => /"code":"(\w+)"/.exec(data)?.[1] ?? []);
      expect(codes).toEqual([code]);
    }
  });

  test("a reader that goes leaves nothing behind", async () => {
    await add("sse left", "a");
    const streams = Array.from(
      { length: 10 },
      () => new EventStream<AddedData>(one.url, messageAdded, { sessionId: "sse left" }, null),
    );
    await waitUntil("it listens", async () => (await channels("sse left")) === 1);
    for (const stream of streams) stream.cut();
    await waitUntil("nobody listens", async () => (await channels("sse left")) === 0);
    expect((await request(one.url, "{ viewer { subject } }")).errors).toBeUndefined();
  });
});
