import { describe, expect } from "vitest";
import {
  addMessages,
  ask,
  cancel,
  eventsOf,
  follow,
  isRunEnd,
  outline,
  readMessages,
  readRun,
  send,
  sendOnly,
  texts,
} from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal, request, subscribe } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

// So long a lease that nothing below can come from its end, or from its renewal.
const test = chatTest({ runLeaseMs: 120_000 });

describe("two gateways on one Redis", () => {
  test("10 simultaneous messages in one session: 10 questions and 10 replies in strict alternation", async ({
    openai,
    url: here,
    there,
  }) => {
    openai.behave({ kind: "reply", text: "Yes", delayMs: 5 });
    const stream = await follow(there, (await ask(here, "ten", "Start")).session.sessionId);
    const turns = await Promise.all(
      Array.from({ length: 10 }, (_, i) => ask(i % 2 === 0 ? here : there, "ten", `Q${i}`)),
    );
    expect(new Set(turns.map(({ run }) => run.id)).size).toBe(10);
    const messages = (await readMessages(here, "ten")).slice(2);
    expect(messages.map(({ role }) => role)).toEqual(Array.from({ length: 10 }, () => ["USER", "ASSISTANT"]).flat());
    expect(
      messages
        .filter(({ role }) => role === "USER")
        .map(({ text }) => text)
        .sort(),
    ).toEqual(Array.from({ length: 10 }, (_, i) => `Q${i}`));
    for (let i = 0; i < messages.length; i += 2) expect(messages[i]?.run).toEqual(messages[i + 1]?.run);
    for (const { run } of turns) await stream.waitFor(isRunEnd(run.id));
    stream.close();
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => message.id)).toEqual(messages.map(({ id }) => id));
    expect(
      outline(stream)
        .slice(1)
        .filter((step) => step !== "ReplyProgress" && step !== "RunChanged QUEUED"),
    ).toEqual(
      Array.from({ length: 10 }, () => [
        // What was before is unread until somebody sends.
        ...["RunChanged RUNNING", "MessageAdded USER", "SessionUpdated"],
        ...["MessageAdded ASSISTANT", "RunChanged COMPLETED"],
      ]).flat(),
    );
  });

  test("the same messageId 5 times at once over both: one model call, one answer", async ({
    openai,
    url: here,
    there,
  }) => {
    const before = openai.requests.length;
    const turns = await Promise.all(
      [here, there, here, there, here].map((url) => ask(url, "five", "Only once", { messageId: "once" })),
    );
    expect(openai.requests.length).toBe(before + 1);
    const [first] = turns;
    for (const turn of turns)
      expect([turn.run, turn.userMessage, turn.reply]).toEqual([first?.run, first?.userMessage, first?.reply]);
    expect(first?.run.status).toBe("COMPLETED");
    expect(await texts(there, "five")).toEqual(["USER: Only once", "ASSISTANT: You said: Only once"]);
  });

  test("the same messageId with two contents at once: one is taken, the other refused", async ({
    openai,
    url: here,
    there,
  }) => {
    const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { reply { text } } }`;
    const before = openai.requests.length;
    const answers = await Promise.all(
      [here, there, here, there].map((url, i) =>
        request<{ sendMessage: { reply: { text: string } } }>(url, query, {
          input: { sessionId: "contents", text: `Version ${i % 2}`, messageId: "same" },
        }),
      ),
    );
    const taken = new Set(answers.flatMap(({ data }) => data?.sendMessage.reply.text ?? []));
    const codes = answers.flatMap(({ errors }) => errors?.map(({ extensions }) => extensions?.code) ?? []);
    expect(taken.size).toBe(1);
    expect(codes).toEqual(["MESSAGE_ID_REUSED", "MESSAGE_ID_REUSED"]);
    expect(openai.requests.length).toBe(before + 1);
    expect(await readMessages(here, "contents")).toHaveLength(2);
  });

  test("a reply made by one is followed on the other, from the middle on too", async ({ openai, url: here, there }) => {
    openai.next({ kind: "gated", tokens: ["One ", "two ", "three"] });
    await addMessages(here, "followed", [{ role: "SYSTEM", text: "Count" }]);
    const early = await follow(there, "followed");
    const { run, userMessage } = await send(here, "followed", "Go");
    openai.release();
    await early.waitFor(({ __typename }) => __typename === "ReplyProgress");
    const late = await follow(there, "followed");
    openai.releaseAll();
    await Promise.all([early.waitFor(isRunEnd(run.id)), late.waitFor(isRunEnd(run.id))]);
    early.close();
    late.close();
    expect(outline(early)).toEqual([
      "StreamOpened",
      "RunChanged RUNNING",
      "MessageAdded USER",
      "SessionUpdated",
      "ReplyProgress",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
    ]);
    expect(eventsOf(early, "MessageAdded")[0]?.message.id).toBe(userMessage?.id);
    const [opened] = eventsOf(late, "StreamOpened");
    const had = opened?.session.activeRun?.text ?? "";
    expect(had).toBe("One ");
    expect(
      had +
        eventsOf(late, "ReplyProgress")
          .map(({ text }) => text)
          .join(""),
    ).toBe("One two three");
    expect(eventsOf(late, "MessageAdded").map(({ message }) => message.text)).toEqual(["One two three"]);
  });

  test("cancel from the other one ends the provider's request and keeps the text as a message", async ({
    openai,
    url: here,
    there,
  }) => {
    openai.next({ kind: "gated", tokens: ["Much ", "more"] });
    const { run } = await send(here, "cancelled", "Tell me everything");
    openai.release();
    await waitUntil("its first text is stored", async () => (await readRun(there, run.id))?.text === "Much ");
    const aborted = openai.aborted;
    const cancelled = await cancel(there, run.id);
    await openai.waitForAbort(aborted + 1);
    expect(cancelled).toMatchObject({
      status: "CANCELLED",
      text: "Much ",
      reply: { text: "Much ", finishReason: "CANCELLED" },
    });
    expect(await texts(here, "cancelled")).toEqual(["USER: Tell me everything", "ASSISTANT: Much "]);
    expect((await ask(here, "cancelled", "Thanks")).run.status).toBe("COMPLETED");
  });

  test("a run that waits at one is cancelled from the other; REJECT and INTERRUPT know the other's run", async ({
    openai,
    url: here,
    there,
  }) => {
    openai.next({ kind: "gated", tokens: ["Held ", "on"] });
    const held = await send(here, "across", "Hold");
    openai.release();
    await waitUntil("its first text is stored", async () => (await readRun(there, held.run.id))?.text === "Held ");
    const waiting = await send(here, "across", "Waits");
    expect(await cancel(there, waiting.run.id)).toMatchObject({ status: "CANCELLED", reply: null });
    const input = { sessionId: "across", text: "x", whenBusy: "REJECT" };
    expect((await refusal(there, sendOnly, { input })).extensions).toMatchObject({
      code: "SESSION_BUSY",
      runId: held.run.id,
    });
    const aborted = openai.aborted;
    await ask(there, "across", "Me first", { whenBusy: "INTERRUPT" });
    await openai.waitForAbort(aborted + 1);
    expect(await texts(here, "across")).toEqual([
      "USER: Hold",
      "ASSISTANT: Held ",
      "USER: Me first",
      "ASSISTANT: You said: Me first",
    ]);
  });

  test("a mutation that waits here hears of the end that was brought about there", async ({
    openai,
    url: here,
    there,
  }) => {
    openai.next("hang");
    const before = openai.requests.length;
    const waiting = ask(here, "hears", "Hello?");
    await openai.waitForRequests(before + 1);
    type Data = { session: { activeRun: { id: string } } };
    const { session } = await execute<Data>(there, `{ session(sessionId: "hears") { activeRun { id } } }`);
    await cancel(there, session.activeRun.id);
    expect(await waiting).toMatchObject({ run: { status: "CANCELLED" }, reply: null });
  });

  test("the list of sessions changes on the other one: opened, added, updated, removed", async ({
    url: here,
    there,
  }) => {
    interface Change {
      readonly __typename: string;
      readonly session?: { readonly sessionId: string; readonly title: string | null; readonly messageCount: number };
      readonly sessionId?: string;
      readonly removedId?: string;
    }
    const changes = subscribe<Change>(
      there,
      `subscription { sessionChanged {
        __typename
        ... on SessionAdded { session { sessionId title messageCount } }
        ... on SessionUpdated { session { sessionId title messageCount } }
        ... on SessionRemoved { sessionId removedId }
      } }`,
    );
    const of = (typename: string) => (change: Change) =>
      change.__typename === typename && (change.session?.sessionId ?? change.sessionId) === "sidebar";
    await changes.waitFor(({ __typename }) => __typename === "SessionListOpened");
    await execute(here, `mutation { createSession(input: { sessionId: "sidebar", title: "New" }) { session { id } } }`);
    await changes.waitFor(of("SessionAdded"));
    await execute(
      here,
      `mutation { updateSession(input: { sessionId: "sidebar", title: "Renamed" }) { session { id } } }`,
    );
    await changes.waitFor((change) => of("SessionUpdated")(change) && change.session?.title === "Renamed");
    await ask(here, "sidebar", "Hello");
    await changes.waitFor((change) => of("SessionUpdated")(change) && change.session?.messageCount === 2);
    await execute(here, `mutation { deleteSession(input: { sessionId: "sidebar" }) { deletedId } }`);
    const removed = await changes.waitFor(of("SessionRemoved"));
    changes.close();
    expect(removed.removedId).toBe(Buffer.from("Session:sidebar").toString("base64"));
    expect(changes.events[0]?.__typename).toBe("SessionListOpened");
    const kinds = changes.events.filter((change) => (change.session?.sessionId ?? change.sessionId) === "sidebar");
    expect(kinds.filter(of("SessionAdded"))).toHaveLength(1);
    expect(kinds[0]?.__typename).toBe("SessionAdded");
    expect(kinds.at(-1)?.__typename).toBe("SessionRemoved");
  });
});
