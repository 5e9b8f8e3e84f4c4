import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { createParleyClient } from "../../packages/client/src/client.ts";
import type {
  ParleyClient,
  ParleyClientOptions,
  RawEvent,
  SentBlock,
  SessionSnapshot,
  SessionStore,
} from "../../packages/client/src/client.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";
import type { TcpProxy } from "../support/redis/tcp-proxy.ts";
import { startServedModel, type ServedModel } from "../support/model/served-model.ts";

// The package parley-client against a gateway, through a proxy that cuts its connections; over both transports, because
// each reconnects, renews its token and notices a dead link in a way of its own.

let openai: ServedModel["openai"];
let gateway: ServedModel["gateway"];
let close: ServedModel["close"];
let proxy: TcpProxy;

beforeAll(async () => {
  ({ openai, gateway, close } = await startServedModel());
});
afterAll(() => close());

const opened: { close(): void }[] = [];
beforeEach(async () => {
  // A reply that was stopped still waits at the gate, and would take what another one is released for.
  openai.releaseAll();
  openai.behave(null);
  proxy = await startProxy(Number(new URL(gateway.url).port));
});
afterEach(async () => {
  for (const one of opened.splice(0)) one.close();
  await proxy.close();
});

function clientOf(options: Partial<ParleyClientOptions> = {}): ParleyClient {
  const client = createParleyClient({ url: `http://127.0.0.1:${proxy.port}/graphql`, ...options });
  opened.push(client);
  return client;
}

/** Listens to a session; what it returns holds each snapshot that there was. */
function follow(store: SessionStore): SessionSnapshot[] {
  const all: SessionSnapshot[] = [];
  store.subscribe(() => all.push(store.getSnapshot()));
  return all;
}

const lines = ({ messages }: SessionSnapshot) => messages.map(({ role, status, text }) => `${role} ${status}: ${text}`);
const shown = (store: SessionStore) => expect.poll(() => lines(store.getSnapshot()));
const stateOf = (store: SessionStore) => expect.poll(() => store.getSnapshot().connection);

async function add(client: ParleyClient, sessionId: string, ...texts: readonly string[]): Promise<void> {
  const messages = texts.map((text, index) => ({ role: index % 2 === 0 ? "USER" : "ASSISTANT", text }));
  await client.request("mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }", {
    input: { sessionId, messages },
  });
}

/** What the gateway itself says of the session. */
async function stored(client: ParleyClient, sessionId: string) {
  const { session } = await client.request<{
    session: { messageCount: number; readCount: number; messages: { nodes: { id: string; text: string }[] } };
  }>(
    `query ($sessionId: String!) { session(sessionId: $sessionId) {
      messageCount readCount messages(last: 200) { nodes { id text } } } }`,
    { sessionId },
  );
  return session;
}

const gated = (...tokens: readonly string[]) => openai.behave({ kind: "gated", tokens });

describe.each(["websocket", "sse"] as const)("over %s", (live) => {
  const idOf = (name: string) => `${live}-${name}`;

  test("a message has its stored id once it is sent, and its reply from the first character on", async () => {
    gated("Hello", " Jim.");
    const client = clientOf({ live });
    const chat = client.session(idOf("ids"));
    const all = follow(chat);
    await stateOf(chat).toBe("new");
    const sent = chat.send("Hi! I'm Jim.");
    expect(lines(chat.getSnapshot())).toEqual(["USER sending: Hi! I'm Jim."]);
    const [optimistic] = chat.getSnapshot().messages;
    const run = await sent;
    openai.release();
    await shown(chat).toEqual(["USER stored: Hi! I'm Jim.", "ASSISTANT streaming: Hello"]);
    expect(chat.getSnapshot().run?.id).toBe(run.id);
    openai.releaseAll();
    await shown(chat).toEqual(["USER stored: Hi! I'm Jim.", "ASSISTANT stored: Hello Jim."]);
    const ids = [optimistic?.id, run.replyId];
    expect((await stored(client, idOf("ids"))).messages.nodes.map(({ id }) => id)).toEqual(ids);
    // No snapshot ever held another id, an id twice, or a message out of its order.
    for (const { messages } of all) expect(ids.slice(0, messages.length)).toEqual(messages.map(({ id }) => id));
  });

  test("a connection that is cut in mid-reply goes on: nothing is lost, nothing leaves the screen meanwhile", async () => {
    gated("one", " two", " three");
    const chat = clientOf({ live }).session(idOf("cut"));
    const all = follow(chat);
    await stateOf(chat).toBe("new");
    await chat.send("Count.");
    openai.release();
    await shown(chat).toEqual(["USER stored: Count.", "ASSISTANT streaming: one"]);
    proxy.refuse(true);
    await stateOf(chat).toBe("offline");
    openai.release();
    proxy.refuse(false);
    await shown(chat).toEqual(["USER stored: Count.", "ASSISTANT streaming: one two"]);
    proxy.refuse(true);
    await stateOf(chat).toBe("offline");
    openai.releaseAll();
    // The reply ends while the client is away.
    const other = createParleyClient({ url: gateway.url });
    await expect.poll(async () => (await stored(other, idOf("cut"))).messages.nodes.length).toBe(2);
    other.close();
    proxy.refuse(false);
    await shown(chat).toEqual(["USER stored: Count.", "ASSISTANT stored: one two three"]);
    const texts = all.map(({ messages }) => messages.map(({ text }) => text).join("|"));
    for (const [index, text] of texts.entries()) expect(text).toMatch(new RegExp(`^${texts[index - 1] ?? ""}`));
  });

  test("a session that somebody else starts is there from its first message on", async () => {
    const client = clientOf({ live });
    const [here, there] = [client.session(idOf("new")), clientOf({ live }).session(idOf("new"))];
    follow(here);
    follow(there);
    await stateOf(here).toBe("new");
    await stateOf(there).toBe("new");
    await there.send("Hi! I'm Ada.");
    await shown(here).toEqual(["USER stored: Hi! I'm Ada.", "ASSISTANT stored: Hello Ada!"]);
    expect(here.getSnapshot()).toMatchObject({ connection: "live", run: null, queued: [] });
  });

  test("messages that wait stand in their order in every client, under the ids that they will have", async () => {
    gated("slow", " reply");
    const [here, there] = [clientOf({ live }).session(idOf("queue")), clientOf({ live }).session(idOf("queue"))];
    follow(here);
    follow(there);
    await stateOf(here).toBe("new");
    await here.send("one");
    openai.release();
    await shown(here).toEqual(["USER stored: one", "ASSISTANT streaming: slow"]);
    const second = await here.send("two");
    const third = await here.send("three");
    expect([second.status, third.status]).toEqual(["QUEUED", "QUEUED"]);
    const waiting = ["USER stored: one", "ASSISTANT streaming: slow", "USER queued: two", "USER queued: three"];
    await shown(here).toEqual(waiting);
    await shown(there).toEqual(waiting);
    const ids = here.getSnapshot().messages.map(({ id }) => id);
    expect(there.getSnapshot().messages.map(({ id }) => id)).toEqual(ids);

    await there.cancel(third.id);
    await shown(here).toEqual(waiting.slice(0, 3));
    await here.cancel();
    const next = ["USER stored: two", "ASSISTANT streaming: "];
    await shown(there).toEqual(["USER stored: one", "ASSISTANT stored: slow", ...next]);
    await shown(here).toEqual(lines(there.getSnapshot()));
    expect(here.getSnapshot().messages[1]?.finishReason).toBe("CANCELLED");
    openai.releaseAll();
    expect((await here.settled(second.id)).status).toBe("COMPLETED");
    await shown(here).toEqual([
      ...["USER stored: one", "ASSISTANT stored: slow", "USER stored: two", "ASSISTANT stored: slow reply"],
    ]);
    expect(here.getSnapshot().messages[2]?.id).toBe(ids[2]);
  });

  test("a reply that is made anew takes the place of the old one, and what others write meanwhile stays", async () => {
    const client = clientOf({ live });
    const [here, there] = [client.session(idOf("again")), clientOf({ live }).session(idOf("again"))];
    follow(here);
    follow(there);
    await add(client, idOf("again"), "question", "old answer");
    await shown(here).toEqual(["USER stored: question", "ASSISTANT stored: old answer"]);
    gated("new", " answer");
    await here.regenerate();
    openai.release();
    for (const chat of [here, there]) {
      await shown(chat).toEqual(["USER stored: question", "ASSISTANT streaming: new"]);
    }
    await add(client, idOf("again"), "from a program");
    for (const chat of [here, there]) {
      await shown(chat).toContain("USER stored: from a program");
    }
    openai.releaseAll();
    for (const chat of [here, there]) {
      await shown(chat).toEqual([
        ...["USER stored: question", "ASSISTANT stored: new answer", "USER stored: from a program"],
      ]);
    }
    expect((await stored(client, idOf("again"))).messages.nodes.map(({ text }) => text)).toEqual([
      ...["question", "new answer", "from a program"],
    ]);
  });

  test("an edit drops what it replaces at once, here and elsewhere, also of the first message, and twice", async () => {
    const client = clientOf({ live });
    const [here, there] = [client.session(idOf("edit")), clientOf({ live }).session(idOf("edit"))];
    const all = follow(here);
    follow(there);
    await stateOf(here).toBe("new");
    await here.send("Hi! I'm Jim.");
    await shown(here).toEqual(["USER stored: Hi! I'm Jim.", "ASSISTANT stored: Hello Jim!"]);
    await here.send("What is my name?");
    await shown(here).toContain("ASSISTANT stored: Your name is Jim.");
    for (const name of ["Ada", "Bob"]) {
      const before = all.length;
      const edit = here.edit(here.getSnapshot().messages[0]?.id ?? "", `Hi! I'm ${name}.`);
      expect(lines(here.getSnapshot())).toEqual([`USER sending: Hi! I'm ${name}.`]);
      await edit;
      const after = [`USER stored: Hi! I'm ${name}.`, `ASSISTANT stored: Hello ${name}!`];
      await shown(here).toEqual(after);
      await shown(there).toEqual(after);
      // What was replaced never came back for a moment.
      for (const snapshot of all.slice(before)) expect(lines(snapshot)[0]).toContain(name);
    }
  });

  test("a message of a reply in progress is edited: the reply goes with it", async () => {
    gated("never", " shown");
    const chat = clientOf({ live }).session(idOf("edit-busy"));
    const all = follow(chat);
    await stateOf(chat).toBe("new");
    const run = await chat.send("wrong");
    openai.release();
    await shown(chat).toContain("ASSISTANT streaming: never");
    openai.behave(null);
    const before = all.length;
    await chat.edit(chat.getSnapshot().messages[0]?.id ?? "", "right");
    await shown(chat).toEqual(["USER stored: right", "ASSISTANT stored: You said: right"]);
    expect((await chat.settled(run.id)).status).toBe("CANCELLED");
    for (const snapshot of all.slice(before)) expect(lines(snapshot).join()).not.toMatch(/wrong|never/);
  });

  test("the lists of a page are live, over one stream: new, renamed, archived and deleted sessions", async () => {
    const frames: RawEvent[] = [];
    const client = clientOf({ live, onEvent: (event) => frames.push(event) });
    const metadata = { of: idOf("list") };
    const [list, archived] = [client.sessions({ metadata }), client.sessions({ metadata, archived: true })];
    for (const one of [list, archived]) one.subscribe(() => undefined);
    const titles = (store: typeof list) =>
      expect.poll(() => [store.getSnapshot().connection, ...store.getSnapshot().sessions.map(({ title }) => title)]);
    await titles(list).toEqual(["live"]);
    await titles(archived).toEqual(["live"]);
    const { sessionId } = await client.create({ title: "first", metadata });
    const chat = client.session(idOf("list-second"));
    await chat.send("Hi!", { newSession: { title: "second", metadata } });
    await titles(list).toEqual(["live", "second", "first"]);
    await client.session(sessionId).update({ title: "renamed", archived: true });
    await titles(list).toEqual(["live", "second"]);
    await titles(archived).toEqual(["live", "renamed"]);
    await client.session(sessionId).delete();
    await client.session(sessionId).delete();
    await titles(archived).toEqual(["live"]);
    expect(frames.filter(({ text }) => text.includes("SessionListOpened"))).toHaveLength(1);
    proxy.refuse(true);
    await titles(list).toEqual(["offline", "second"]);
    proxy.refuse(false);
    await titles(list).toEqual(["live", "second"]);
  });

  test("a session that is deleted is removed from the screen, and a message to it begins a new one", async () => {
    const client = clientOf({ live });
    const chat = client.session(idOf("gone"));
    follow(chat);
    await stateOf(chat).toBe("new");
    await chat.settled((await chat.send("Hi! I'm Jim.")).id);
    await chat.delete();
    await stateOf(chat).toBe("removed");
    expect(chat.getSnapshot()).toMatchObject({ messages: [], session: null });
    await chat.send("Hi! I'm Ada.");
    await shown(chat).toEqual(["USER stored: Hi! I'm Ada.", "ASSISTANT stored: Hello Ada!"]);
  });

  test("a link that went dead without a word is left for a new one", async () => {
    const client = clientOf({ live, silenceMs: 1500 });
    await add(client, idOf("dead"), "a");
    const chat = client.session(idOf("dead"));
    follow(chat);
    await shown(chat).toEqual(["USER stored: a"]);
    proxy.blackhole(true);
    await stateOf(chat).toBe("offline");
    proxy.blackhole(false);
    await add(client, idOf("dead"), "b");
    await shown(chat).toEqual(["USER stored: a", "USER stored: b"]);
  });

  test("subscribed, left and subscribed again at once, as StrictMode does it, there is one stream", async () => {
    const frames: RawEvent[] = [];
    const client = clientOf({ live, onEvent: (event) => frames.push(event) });
    await add(client, idOf("strict"), "a");
    const chat = client.session(idOf("strict"));
    const leave = chat.subscribe(() => undefined);
    leave();
    leave();
    follow(chat);
    await shown(chat).toEqual(["USER stored: a"]);
    expect(client.session(idOf("strict"))).toBe(chat);
    // Another store that was left after it has closed by now: this one would have, too.
    const other = client.session(idOf("strict-other"));
    other.subscribe(() => undefined)();
    await stateOf(other).toBe("idle");
    await add(client, idOf("strict"), "b");
    await shown(chat).toEqual(["USER stored: a", "USER stored: b"]);
    expect(frames.filter(({ text }) => text.includes("StreamOpened"))).toHaveLength(1);
  });
});

describe("whatever the transport", () => {
  test("reasoning is live, also for a late subscriber and after a cut, and the stored reply has it", async () => {
    openai.behave({ kind: "gated", reasoning: ["Hm, ", "let me see."], tokens: ["Yes", ", I do."] });
    const client = clientOf();
    const chat = client.session("thinks");
    follow(chat);
    await stateOf(chat).toBe("new");
    const blocks = (store: SessionStore) => expect.poll(() => store.getSnapshot().messages[1]?.content);
    const run = await chat.send("Do you think?");
    openai.release();
    await blocks(chat).toEqual([{ type: "reasoning", text: "Hm, " }]);
    const late = clientOf({ url: gateway.url }).session("thinks");
    follow(late);
    await blocks(late).toEqual([{ type: "reasoning", text: "Hm, " }]);
    proxy.refuse(true);
    await stateOf(chat).toBe("offline");
    openai.release();
    openai.release();
    const reasoning = { type: "reasoning", text: "Hm, let me see." };
    await blocks(late).toEqual([reasoning, { type: "text", text: "Yes" }]);
    proxy.refuse(false);
    for (const store of [chat, late]) await blocks(store).toEqual([reasoning, { type: "text", text: "Yes" }]);
    openai.releaseAll();
    await chat.settled(run.id);
    for (const store of [chat, late]) {
      await expect
        .poll(() => store.getSnapshot().messages[1])
        .toMatchObject({
          ...{ id: run.replyId, status: "stored", text: "Yes, I do." },
          content: [reasoning, { type: "text", text: "Yes, I do.", citations: [] }],
        });
    }
  });

  test("files, sounds and images that are sent come back as what they are", async () => {
    const chat = clientOf().session("blocks");
    follow(chat);
    const sent: readonly SentBlock[] = [
      { type: "text", text: "Look." },
      { type: "image", url: "https://example.org/a.png", detail: "low" },
      { type: "file", url: "https://example.org/a.pdf", mimeType: "application/pdf", fileName: "a.pdf" },
      { type: "file", url: "data:text/plain;base64,SGk=", mimeType: null, fileName: null },
      { type: "audio", url: "data:audio/wav;base64,AA==", mimeType: "audio/wav" },
      { type: "other", data: { type: "video", url: "https://example.org/a.mp4" } },
    ];
    await chat.settled((await chat.send(sent)).id);
    await expect.poll(() => chat.getSnapshot().messages[0]?.status).toBe("stored");
    expect(chat.getSnapshot().messages[0]?.content).toEqual([
      { type: "text", text: "Look.", citations: [] },
      ...sent.slice(1, 3),
      { ...sent[3], mimeType: "text/plain" },
      ...sent.slice(4),
    ]);
  });

  test("a reply that fails keeps its text and its error, also for later subscribers, until it is tried again", async () => {
    openai.behave({ kind: "errorFrame", code: "server_error" });
    const chat = clientOf().session("failed");
    follow(chat);
    await stateOf(chat).toBe("new");
    const run = await chat.send("Hi! I'm Jim.");
    expect((await chat.settled(run.id)).status).toBe("FAILED");
    const failed = chat.getSnapshot().messages[1];
    expect(failed).toMatchObject({ id: run.replyId, status: "failed", error: { code: "MODEL_UNAVAILABLE" } });
    expect(failed?.text).not.toBe("");
    const later = clientOf().session("failed");
    follow(later);
    await shown(later).toEqual(lines(chat.getSnapshot()));

    openai.behave(null);
    await later.retry(run.replyId);
    for (const one of [chat, later]) {
      await shown(one).toEqual(["USER stored: Hi! I'm Jim.", "ASSISTANT stored: Hello Jim!"]);
    }
  });

  test("what cannot be sent is tried again, then told; sent again it is one message; what is refused says why", async () => {
    let tries = 0;
    let isDown = true;
    const busy = { message: "Later.", extensions: { code: "STORE_UNAVAILABLE", retryAfterSeconds: 0 } };
    const down: typeof fetch = (input, init) => {
      if (!isDown) return fetch(input, init);
      tries += 1;
      // The first one reaches nobody; the others are asked to come again.
      if (tries === 1) return Promise.reject(new TypeError("down"));
      return Promise.resolve(Response.json({ errors: [busy] }, { status: 503 }));
    };
    const chat = clientOf({ fetch: down }).session("unsent");
    await expect(chat.send(" ")).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    expect(tries).toBe(5);
    expect(lines(chat.getSnapshot())).toEqual(["USER failed:  "]);
    isDown = false;
    const [blank] = chat.getSnapshot().messages;
    await expect(chat.retry(blank?.id ?? "")).rejects.toMatchObject({ code: "BAD_USER_INPUT" });
    expect(chat.getSnapshot().messages[0]?.error?.code).toBe("BAD_USER_INPUT");
    await chat.edit(blank?.id ?? "", "Hi! I'm Jim.");
    follow(chat);
    await shown(chat).toEqual(["USER stored: Hi! I'm Jim.", "ASSISTANT stored: Hello Jim!"]);
    await expect(chat.edit("nothing", "x")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("settled gives the end of a run also to a client that was away, once the reply is there", async () => {
    gated("one", " two");
    const client = clientOf();
    const chat = client.session("settled");
    follow(chat);
    await stateOf(chat).toBe("new");
    const run = await chat.send("Count.");
    openai.release();
    await shown(chat).toContain("ASSISTANT streaming: one");
    const texts = chat.settled(run.id).then(() => chat.getSnapshot().messages.map(({ text }) => text));
    proxy.refuse(true);
    openai.releaseAll();
    const other = createParleyClient({ url: gateway.url });
    await expect.poll(async () => (await stored(other, "settled")).messages.nodes.length).toBe(2);
    proxy.refuse(false);
    expect(await texts).toEqual(["Count.", "one two"]);
    // Of a run from before there was a stream; and of one that nobody knows.
    expect((await other.session("settled").settled(run.id)).status).toBe("COMPLETED");
    expect((await chat.settled("UnVuOm5vYm9keQ==")).status).toBe("CANCELLED");
    other.close();
  });

  test("a client that was closed connects again for the next subscription", async () => {
    const client = clientOf();
    await add(client, "closed", "a");
    const chat = client.session("closed");
    follow(chat);
    await shown(chat).toEqual(["USER stored: a"]);
    client.close();
    expect(chat.getSnapshot().connection).toBe("idle");
    await add(client, "closed", "b");
    follow(chat);
    await shown(chat).toEqual(["USER stored: a", "USER stored: b"]);
  });

  test("older pages come up to the beginning, without a gap, across a reply that is made anew", async () => {
    const client = clientOf();
    const texts = Array.from({ length: 120 }, (_, index) => `n${index}`);
    await add(client, "pages", ...texts);
    const chat = client.session("pages");
    follow(chat);
    const positions = () => chat.getSnapshot().messages.map(({ position }) => position);
    await expect.poll(positions).toEqual(Array.from({ length: 50 }, (_, index) => 70 + index));
    const [kept] = chat.getSnapshot().messages;
    await Promise.all([chat.loadOlder(), chat.loadOlder()]);
    expect(positions()).toEqual(Array.from({ length: 100 }, (_, index) => 20 + index));
    await chat.regenerate();
    await expect.poll(() => chat.getSnapshot().messages.at(-1)?.text).toBe("You said: n118");
    await chat.loadOlder();
    expect(positions()).toEqual(Array.from({ length: 120 }, (_, index) => index));
    expect(chat.getSnapshot()).toMatchObject({ hasOlder: false, loadingOlder: false });
    expect(chat.getSnapshot().messages[70]).toBe(kept);
  });

  test("unread is what the gateway says, after turns of one's own too, and markRead makes it nothing", async () => {
    let marks = 0;
    const client = clientOf({
      fetch(url, init) {
        if (typeof init?.body === "string" && init.body.includes("ParleyMarkRead")) marks++;
        return fetch(url, init);
      },
    });
    await add(client, "read", "a", "b", "c");
    const chat = client.session("read");
    follow(chat);
    const unread = expect.poll(() => chat.getSnapshot().unread);
    await unread.toBe(3);
    await chat.markRead();
    await unread.toBe(0);
    await add(client, "read", ...Array.from({ length: 20 }, (_, i) => String(i)));
    await unread.toBe(20);
    // As of a page that asks for it with each message.
    const before = marks;
    await Promise.all(Array.from({ length: 20 }, () => chat.markRead()));
    expect(marks - before).toBeLessThanOrEqual(2);
    await unread.toBe(0);
    await chat.settled((await chat.send("d")).id);
    const { messageCount, readCount } = await stored(client, "read");
    expect([messageCount, readCount]).toEqual([25, 24]);
    await unread.toBe(1);
  });

  test("a fork has the history up to a message, and clear leaves nothing of it", async () => {
    const client = clientOf();
    await add(client, "fork", "a", "b", "c", "d");
    const chat = client.session("fork");
    follow(chat);
    await stateOf(chat).toBe("live");
    const copy = await chat.fork(chat.getSnapshot().messages[1]?.id);
    expect((await stored(client, copy)).messages.nodes.map(({ text }) => text)).toEqual(["a", "b"]);
    await chat.clear();
    await shown(chat).toEqual([]);
    expect(chat.getSnapshot()).toMatchObject({ connection: "live", hasOlder: false, unread: 0 });
  });

  test("what a server has loaded is there at once, and only what came since is asked for", async () => {
    const client = clientOf();
    await add(client, "seed", "a", "b");
    const seed: unknown = JSON.parse(JSON.stringify(await client.load("seed")));
    await add(client, "seed", "c");
    const frames: RawEvent[] = [];
    const page = clientOf({ onEvent: (event) => frames.push(event) });
    const chat = page.session("seed", seed as Awaited<ReturnType<ParleyClient["load"]>>);
    expect(lines(chat.getSnapshot())).toEqual(["USER stored: a", "ASSISTANT stored: b"]);
    const first = chat.getServerSnapshot();
    follow(chat);
    await shown(chat).toEqual(["USER stored: a", "ASSISTANT stored: b", "USER stored: c"]);
    expect(chat.getServerSnapshot()).toBe(first);
    expect(frames.map(({ text }) => text).join()).not.toContain('"nodes"');
    expect(await client.load("nobody")).toEqual({ sessionId: "nobody", session: null });
  });
});
