import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { openBackend, range, replyOf, textsOf, type TestBackend } from "../support/store/feeds.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { subscribe } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { completed, foreignRow, must, newTurn, owner } from "../support/store/store.ts";
import { openAcknowledged } from "../support/gateway/transport-server.ts";

let server: TestRedis;
let redis: Redis;
let one: TestBackend;
let two: TestBackend;
let gateway: TestGateway;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
  one = openBackend(server.port);
  two = openBackend(server.port);
  gateway = await startGateway({ redis: server.url, slowReaderMs: 1000 });
});

afterAll(async () => {
  await Promise.all([one.backend.close(), two.backend.close(), gateway.close()]);
  redis.disconnect();
  await server.stop();
});

/** Bytes of the heap that are in use once what nobody holds is gone. */
function heapInUse(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void; // what the flag has just put there
  collect();
  return process.memoryUsage().heapUsed;
}

describe("a subscriber that does not pull (P10)", () => {
  test("holds no queue while 5,000 messages come, then has all of them, once and in order", async () => {
    const body = "x".repeat(16_000);
    await one.append("idle", "first");
    const idle = await one.open("idle", null, "never");
    const busy = await one.open("idle", null, "never");
    expect((await idle.next())?.kind).toBe("opened");
    const before = heapInUse();
    let positions = 0;
    const pulling = (async () => {
      for (let count = 0; count < 5001; count++) {
        const { value } = (await busy.source.next()) as { value: { kind: string } | undefined }; // the test ends it behind the last
        if (value?.kind === "message") positions++;
      }
    })();
    for (let i = 0; i < 5000; i += 50) {
      const texts = range(i, i + 50).map((name) => `${name} ${body}`);
      if (i % 100 === 0) await two.append("idle", ...texts);
      else await redis.lpush("idle", ...texts.map((text) => foreignRow(text)));
    }
    await pulling;
    expect(positions).toBe(5000);
    // All of them are 80 MB; the ring holds 4 million characters.
    expect(heapInUse() - before).toBeLessThan(25_000_000);
    const got: string[] = [];
    while (got.length < 5000) {
      const event = must(await idle.next());
      idle.events.length = 0;
      if (event.kind !== "message") continue;
      expect(event.message.row.position).toBe(got.length + 1);
      got.push(event.message.row.raw.slice(0, 200));
    }
    expect(got.every((raw, i) => raw.includes(`"m${i} xxx`))).toBe(true);
    one.abortAll();
    await redis.del("idle");
  });

  test("has the text that it missed in one piece", async () => {
    const { store } = two.backend;
    const begun = await store.begin(owner, "talk", newTurn("talk", "Tell me a long story"));
    if (begun.kind !== "started") throw new Error(begun.kind);
    const slow = await one.open("talk", null, "never");
    const quick = await one.open("talk");
    expect((await slow.next())?.kind).toBe("opened");
    let text = "";
    const say = async (word: string) => {
      await store.progress(begun, text.length, word);
      text += word;
    };
    await say("Once ");
    expect((await slow.next())?.kind).toBe("progress");
    for (let i = 0; i < 1500; i++) await say(`word${i} `);
    await quick.until("all of it", () => replyOf(quick) === text);
    expect(await slow.next()).toMatchObject({ kind: "progress", offset: 5, text: text.slice(5) });
    await say("The end.");
    await store.finish(begun, completed(begun, text), "op");
    slow.startPulling();
    for (const reader of [slow, quick]) {
      await reader.until("the end", () => reader.events.at(-1)?.kind === "run");
      expect(replyOf(reader)).toBe(text);
      expect(textsOf(reader)).toEqual([text]);
    }
    expect(slow.ofKind("progress").length).toBeLessThanOrEqual(3);
    one.abortAll();
  });
});

describe("a client that stops reading its connection (P10)", () => {
  const rows = 300;
  const document = (sessionId: string) =>
    `subscription { messageAdded(sessionId: ${JSON.stringify(sessionId)}, after: "") { position text } }`;

  async function subscribers(sessionId: string): Promise<number> {
    const [, count] = await redis.pubsub("NUMSUB", sessionKeys(sessionId).events);
    return Number(count);
  }

  /** Others have everything meanwhile; then the gateway lets go of the session, which only the one that stalls kept. */
  async function stall(sessionId: string, openStalled: () => Promise<() => void>): Promise<void> {
    await redis.lpush(sessionId, foreignRow("first"));
    const end = await openStalled();
    const other = subscribe<{ position: number }>(gateway.url, document(sessionId));
    // Far more than what sockets take in without a reader.
    const body = "y".repeat(64_000);
    for (const text of range(0, rows)) await redis.lpush(sessionId, foreignRow(`${text} ${body}`));
    await other.waitForCount(rows + 1);
    expect(other.events.map(({ position }) => position)).toEqual(Array.from({ length: rows + 1 }, (_, i) => i));
    other.close();
    await waitUntil("the stalled one is let go", async () => (await subscribers(sessionId)) === 0);
    end();
    await redis.del(sessionId);
  }

  test("over WebSocket", async () => {
    await stall("stalled socket", async () => {
      const raw = await openAcknowledged(gateway.url);
      raw.send({ type: "subscribe", id: "1", payload: { query: document("stalled socket") } });
      await waitUntil("it is subscribed", async () => (await subscribers("stalled socket")) === 1);
      raw.socket.pause();
      return () => raw.socket.terminate();
    });
  });

  test("over SSE", async () => {
    await stall("stalled events", async () => {
      const url = `${gateway.url}?query=${encodeURIComponent(document("stalled events"))}`;
      const asked = get(url, { headers: { accept: "text/event-stream" } });
      const [response] = (await once(asked, "response")) as [IncomingMessage]; // node:http's event
      response.on("error", () => undefined);
      await waitUntil("it is subscribed", async () => (await subscribers("stalled events")) === 1);
      response.pause();
      return () => asked.destroy();
    });
  });
});
