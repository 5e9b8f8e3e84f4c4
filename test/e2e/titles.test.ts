import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createGateway } from "../../src/gateway.ts";
import { ask, follow, type SessionEvent } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, subscribe } from "../support/gateway/graphql-client.ts";
import { startOpenAI, type OpenAIServer, type RecordedRequest } from "../support/model/openai-server.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { foreignRow } from "../support/store/store.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// Titles that come by themselves. A model is asked for a reply as a stream, and for a title in one piece.

let redis: TestTopology;
let openai: OpenAIServer;
let gateways: readonly TestGateway[];
let here: string;
let there: string;

/** Nobody else asks for titles: it waits for none. */
const start = () => startGateway({ redis: redis.redis, ...model(), autoTitle: true }, 0);
const model = () => ({ model: "openai:small", openai: { apiKey: "sk-x", baseUrl: openai.baseUrl } });

beforeAll(async () => {
  [redis, openai] = await Promise.all([startTopology(), startOpenAI()]);
  gateways = await Promise.all([start(), start()]);
  [here = "", there = ""] = gateways.map(({ url }) => url);
});
afterEach(() => {
  openai.releaseAll();
  openai.behave(null);
});
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.close()));
  await openai.close();
  await redis.stop();
});

const isForTitle = ({ body }: RecordedRequest) => body["stream"] !== true;
/** The requests for titles of conversations in which this was said. */
const titlesAsked = (said: string) =>
  openai.requests.filter((request) => isForTitle(request) && JSON.stringify(request.messages).includes(said)).length;

function titled(title: string): void {
  openai.behave((request) => ({ kind: "reply", text: isForTitle(request) ? title : "Yes." }));
}

async function titleOf(sessionId: string): Promise<string | null> {
  type Data = { session: { title: string | null } };
  const query = `query ($sessionId: String!) { session(sessionId: $sessionId) { title } }`;
  return (await execute<Data>(here, query, { sessionId })).session.title;
}

async function update(sessionId: string, title: string | null): Promise<void> {
  const query = `mutation ($input: UpdateSessionInput!) { updateSession(input: $input) { session { title } } }`;
  await execute(here, query, { input: { sessionId, title } });
}

async function create(url: string, input: Readonly<Record<string, unknown>>): Promise<void> {
  const query = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { title } } }`;
  await execute(url, query, { input });
}

const hasTitle = (sessionId: string, title: string) =>
  waitUntil(`${sessionId} is called ${title}`, async () => (await titleOf(sessionId)) === title);

/** Whatever a gateway might still do for what it was told before: it takes things in their order. */
async function settled(url: string, sessionId: string): Promise<void> {
  await ask(url, sessionId, `settle ${sessionId}`);
  await waitUntil(`${sessionId} has a title`, async () => (await titleOf(sessionId)) !== null);
}

test("a session gets a title after its first reply, subscribers and the sidebar hear of it, and it gets no other", async () => {
  openai.behave((request) =>
    isForTitle(request) ? { kind: "gated", tokens: ["Bears in spring"] } : { kind: "reply", text: "Yes." },
  );
  await create(here, { sessionId: "first" });
  const stream = await follow(there, "first");
  const sidebar = subscribe<SessionEvent>(
    there,
    `subscription { sessionChanged { __typename ... on SessionUpdated { session { sessionId title } } } }`,
  );
  await sidebar.waitFor((event) => JSON.stringify(event).includes("SessionListOpened"), "SessionListOpened");
  const { session } = await ask(here, "first", "Tell me of bears");
  expect(session.title).toBeNull();
  openai.releaseAll();
  const told = await stream.waitFor((event) => event.__typename === "SessionUpdated", "SessionUpdated");
  expect(told).toMatchObject({ session: { title: "Bears in spring", messageCount: 2 } });
  const has = (event: SessionEvent) =>
    event.__typename === "SessionUpdated" && event.session.title === "Bears in spring";
  await sidebar.waitFor(has, "the title in the sidebar");
  stream.close();
  sidebar.close();

  await ask(there, "first", "And of cats");
  await update("first", null);
  await ask(here, "first", "And of dogs");
  await settled(here, "after-first");
  expect(await titleOf("first")).toBeNull();
  expect(titlesAsked("Tell me of bears")).toBe(1);
});

test("none for a session with a title, one that was there before, one of foreign code, or one that nobody answered", async () => {
  const before = await startGateway({ redis: redis.redis, ...model() });
  titled("By itself");
  await create(here, { sessionId: "named", title: "Mine" });
  await create(before.url, { sessionId: "older" });
  await ask(before.url, "older-too", "olderWord");
  await before.close();
  await redis.raw().lpush("foreign", foreignRow("foreignWord"));
  openai.next("401");
  expect((await ask(here, "failed", "failedWord")).run.status).toBe("FAILED");

  await ask(here, "named", "namedWord");
  await ask(here, "older", "olderWord");
  await ask(here, "older-too", "olderWord");
  await ask(here, "foreign", "anything");
  await settled(here, "after-none");
  expect(await Promise.all(["named", "older", "older-too", "foreign", "failed"].map(titleOf))).toEqual([
    "Mine",
    ...[null, null, null, null],
  ]);
  expect(["namedWord", "olderWord", "foreignWord", "failedWord"].map(titlesAsked)).toEqual([0, 0, 0, 0]);
  // Its first reply is still to come.
  await ask(there, "failed", "once more");
  await hasTitle("failed", "By itself");
});

test("with AUTO_TITLE off there is none", async () => {
  titled("By itself");
  const off = await startGateway({ redis: redis.redis, ...model(), autoTitle: false });
  await create(here, { sessionId: "off" });
  await ask(off.url, "off", "offWord");
  await off.close();
  await settled(here, "after-off");
  expect([await titleOf("off"), titlesAsked("offWord")]).toEqual([null, 0]);
});

test("a title that was set meanwhile stays", async () => {
  openai.behave((request) =>
    isForTitle(request) ? { kind: "gated", tokens: ["Too late"] } : { kind: "reply", text: "Yes." },
  );
  await ask(here, "overtaken", "overtakenWord");
  await waitUntil("the model is asked", () => Promise.resolve(titlesAsked("overtakenWord") === 1));
  await update("overtaken", "Mine");
  openai.releaseAll();
  await settled(here, "after-overtaken");
  expect(await titleOf("overtaken")).toBe("Mine");
});

test("what was cleared lives on in no title: the next reply gets one", async () => {
  openai.behave((request) => {
    if (!isForTitle(request)) return { kind: "reply", text: "Yes." };
    const isFirst = JSON.stringify(request.messages).includes("secretWord");
    return { kind: "gated", tokens: [isFirst ? "Secrets" : "Cats"] };
  });
  await ask(here, "cleared", "secretWord");
  await waitUntil("the model is asked", () => Promise.resolve(titlesAsked("secretWord") === 1));
  await execute(there, `mutation { clearHistory(input: { sessionId: "cleared" }) { session { id } } }`);
  openai.releaseAll();
  await settled(here, "after-cleared");
  expect(await titleOf("cleared")).toBeNull();
  await ask(there, "cleared", "Of cats");
  await hasTitle("cleared", "Cats");
});

test("a page that asks for a title itself after the first reply costs one call", async () => {
  titled("Seals");
  const usual = await startGateway({ redis: redis.redis, ...model(), autoTitle: true });
  await ask(usual.url, "asked", "Tell me of seals.");
  type Data = { generateTitle: { session: { title: string | null } } };
  const query = `mutation { generateTitle(input: { sessionId: "asked" }) { session { title } } }`;
  expect((await execute<Data>(usual.url, query)).generateTitle.session.title).toBe("Seals");
  await update("asked", null);
  await settled(usual.url, "asked-next");
  await usual.close();
  expect(titlesAsked("Tell me of seals.")).toBe(1);
  expect(await titleOf("asked")).toBeNull();
});

test("of two gateways with ten messages only one makes a title", async () => {
  titled("Ten");
  await create(here, { sessionId: "ten" });
  await Promise.all(Array.from({ length: 10 }, (_, i) => ask(i % 2 === 0 ? here : there, "ten", `tenWord ${i}`)));
  await Promise.all([settled(here, "after-ten"), settled(there, "after-ten-there")]);
  expect(await titleOf("ten")).toBe("Ten");
  expect(titlesAsked("tenWord")).toBe(1);
});

test("a gateway that stops gives up the title that it makes", async () => {
  const stopping = await start();
  openai.behave((request) =>
    isForTitle(request) ? { kind: "gated", tokens: ["Never"] } : { kind: "reply", text: "Yes." },
  );
  await ask(stopping.url, "stopped", "stoppedWord");
  await waitUntil("the model is asked", () => Promise.resolve(titlesAsked("stoppedWord") === 1));
  const { aborted } = openai;
  await stopping.close(20_000);
  await openai.waitForAbort(aborted + 1);
  expect(await titleOf("stopped")).toBeNull();
  expect(stopping.logged.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
});

test("the model decides: on by itself with a real one, off with the offline one", async () => {
  titled("Real");
  const real = await createGateway({ redis: redis.redis, ...model() });
  const offline = await createGateway({ redis: redis.redis });
  const listening = await Promise.all([real, offline].map((gateway) => gateway.listen({ port: 0 })));
  const [realUrl = "", offlineUrl = ""] = listening.map(({ url }) => `${url}/graphql`);
  await ask(offlineUrl, "by-offline", "Hello");
  await ask(realUrl, "by-real", "Hello");
  await hasTitle("by-real", "Real");
  expect(await titleOf("by-offline")).toBeNull();
  await Promise.all([real, offline].map((gateway) => gateway.close({ graceMs: 0 })));
});
