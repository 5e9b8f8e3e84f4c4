import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";

import { cancel, readMessages, send, type RunFields } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, subscribe, type Collector } from "../support/gateway/graphql-client.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// A model that thinks, as a chat frontend sees it: live, late, at another gateway, and after the end.

let redis: TestTopology;
let openai: OpenAIServer;
let here: TestGateway;
let there: TestGateway;

beforeAll(async () => {
  [redis, openai] = await Promise.all([startTopology(), startOpenAI()]);
  const options = {
    redis: redis.redis,
    model: "openai:gpt-4o-mini",
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    modelMaxRetries: 0,
  };
  [here, there] = await Promise.all([startGateway(options), startGateway({ ...options, runPartsBytes: 1000 })]);
});
beforeEach(() => {
  openai.releaseAll();
  openai.behave(null);
});
afterAll(async () => {
  await Promise.all([here.close(), there.close()]);
  await openai.close();
  await redis.stop();
});

interface Part {
  readonly __typename: "TextPart" | "ReasoningPart";
  readonly messageId: string;
  readonly text: string;
  readonly start?: number;
}
type Run = Pick<RunFields, "id" | "status" | "replyId" | "text"> & {
  readonly parts: readonly Part[];
  readonly notes: readonly string[];
};
type Event =
  | {
      readonly __typename: "StreamOpened";
      readonly cursor: string;
      readonly session: { readonly activeRun: Run | null };
    }
  | { readonly __typename: "StreamWaiting"; readonly cursor: string }
  | { readonly __typename: "MessageAdded"; readonly message: { readonly text: string; readonly cursor: string } }
  | { readonly __typename: "RunChanged"; readonly run: Run }
  | {
      readonly __typename: "ReplyProgress" | "PartProgress";
      readonly index: number;
      readonly offset: number;
      readonly text: string;
    }
  | { readonly __typename: "PartAdded"; readonly index: number; readonly part: Part };

const partFields = `fragment P on RunPart {
  __typename ... on TextPart { messageId text start } ... on ReasoningPart { messageId text }
}`;
const runFields = `fragment R on Run { id status replyId text notes parts { ...P } } ${partFields}`;

async function follow(url: string, sessionId: string): Promise<Collector<Event>> {
  const query = `subscription ($sessionId: String!) {
    sessionEvents(sessionId: $sessionId) {
      __typename
      ... on StreamWaiting { cursor }
      ... on StreamOpened { cursor session { activeRun { ...R } } }
      ... on MessageAdded { message { text cursor } }
      ... on RunChanged { run { ...R } }
      ... on ReplyProgress { index offset text }
      ... on PartAdded { index part { ...P } }
      ... on PartProgress { index offset text }
    }
  } ${runFields}`;
  const stream = subscribe<Event>(url, query, { sessionId });
  await stream.waitFor(({ __typename }) => /^Stream/.test(__typename));
  return stream;
}

async function runAt(url: string, id: string): Promise<Run | null> {
  const query = `query ($id: ID!) { node(id: $id) { ...R } } ${runFields}`;
  return (await execute<{ node: Run | null }>(url, query, { id })).node;
}

/** What came of parts and text, each event in a line. */
function told({ events }: Pick<Collector<Event>, "events">): readonly string[] {
  return events.flatMap((event) => {
    if (event.__typename === "PartAdded") return [`${event.index} + ${event.part.__typename}: ${event.part.text}`];
    if (event.__typename !== "PartProgress" && event.__typename !== "ReplyProgress") return [];
    return [`${event.index} ${event.__typename} @${event.offset}: ${event.text}`];
  });
}

const ended = ({ __typename, ...event }: Event) =>
  __typename === "RunChanged" && "run" in event && !["RUNNING", "QUEUED"].includes(event.run.status);

test("a model is seen thinking before its first word, at each gateway; who comes late has the parts so far", async () => {
  const streams = [await follow(here.url, "thinks"), await follow(there.url, "thinks")];
  openai.next({ kind: "gated", reasoning: ["Hm, ", "let me see."], tokens: ["Yes", ", I do."] });
  const { run } = await send(here.url, "thinks", "Do you think?");
  openai.release();
  for (const stream of streams) await stream.waitFor(({ __typename }) => __typename === "PartAdded");
  const late = await follow(there.url, "thinks");
  const [opened] = late.events;
  const { replyId } = run;
  expect(opened).toMatchObject({
    __typename: "StreamOpened",
    session: { activeRun: { text: "", parts: [{ __typename: "ReasoningPart", messageId: replyId, text: "Hm, " }] } },
  });
  for (const count of [2, 3, 4]) {
    openai.release();
    for (const stream of streams)
      await stream.waitForCount(count, ({ __typename }) => /^Part|Progress$/.test(__typename));
  }
  openai.release();
  for (const stream of [...streams, late]) await stream.waitFor(ended);
  const rest = ["0 PartProgress @4: let me see.", "1 ReplyProgress @0: Yes", "1 ReplyProgress @3: , I do."];
  for (const stream of streams) {
    expect(told(stream)).toEqual(["0 + ReasoningPart: Hm, ", ...rest]);
    const names = stream.events.map(({ __typename }) => __typename).filter((name) => name !== "StreamWaiting");
    expect([names.slice(0, 3), names.slice(-2)]).toEqual([
      ["StreamOpened", "RunChanged", "MessageAdded"],
      ["MessageAdded", "RunChanged"],
    ]);
  }
  expect(told(late)).toEqual(rest);
  const parts = [
    { __typename: "ReasoningPart", messageId: replyId, text: "Hm, let me see." },
    { __typename: "TextPart", messageId: replyId, text: "Yes, I do.", start: 0 },
  ];
  expect(await runAt(there.url, run.id)).toMatchObject({ status: "COMPLETED", text: "Yes, I do.", parts, notes: [] });
  expect(late.events.find(ended)).toMatchObject({ run: { parts } });
  for (const stream of [...streams, late]) stream.close();
});

test("a run that is stopped while it thinks leaves no message, and its reasoning in the run", async () => {
  openai.next({ kind: "gated", reasoning: ["Hm"], tokens: ["Yes"] });
  const stream = await follow(here.url, "stopped");
  const { run } = await send(here.url, "stopped", "Think");
  openai.release();
  await stream.waitFor(({ __typename }) => __typename === "PartAdded");
  await cancel(there.url, run.id);
  await stream.waitFor(ended);
  stream.close();
  expect(await runAt(here.url, run.id)).toMatchObject({
    status: "CANCELLED",
    text: "",
    parts: [{ __typename: "ReasoningPart", text: "Hm" }],
  });
  expect((await readMessages(here.url, "stopped")).map(({ text }) => text)).toEqual(["Think"]);
});

test("RUN_PARTS_BYTES: of longer reasoning the beginning is kept, a note says so, and the text is whole", async () => {
  const reasoning = Array.from({ length: 50 }, (_, i) => `This is thought number ${i}, and it is long. `);
  openai.next({ kind: "reply", reasoning, text: "Done thinking." });
  const stream = await follow(there.url, "long");
  const { run } = await send(there.url, "long", "Think long");
  await stream.waitFor(ended);
  stream.close();
  const read = await runAt(here.url, run.id);
  const [thought, text] = read?.parts ?? [];
  expect(text).toMatchObject({ __typename: "TextPart", text: "Done thinking." });
  expect(thought?.text.length).toBeGreaterThan(500);
  expect(thought?.text.length).toBeLessThan(1000);
  expect(reasoning.join("").startsWith(thought?.text ?? "-")).toBe(true);
  expect(read?.notes).toEqual(["Of the model's reasoning only the beginning is kept: it was too long."]);
  expect(
    told(stream)
      .filter((line) => line.startsWith("0 "))
      .map((line) => line.replace(/^0 .*?: /, ""))
      .join(""),
  ).toBe(thought?.text);
});
