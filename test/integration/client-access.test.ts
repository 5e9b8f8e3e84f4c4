import { WebSocket as WsSocket } from "ws";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

import { createParleyClient } from "../../packages/client/src/client.ts";
import type { ParleyClient, ParleyClientOptions } from "../../packages/client/src/client.ts";
import * as documents from "../../packages/client/src/documents.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// parley-client against gateways that ask who it is, and that take known operations alone.

const jwt = { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 0, cookie: null } as const;

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
});
afterAll(() => redis.stop());

async function use(
  gateway: TestGateway,
  options: Partial<ParleyClientOptions>,
  work: (client: ParleyClient) => Promise<void>,
): Promise<void> {
  const client = createParleyClient({ url: gateway.url, ...options });
  try {
    await work(client);
  } finally {
    client.close();
  }
}

describe.each(["websocket", "sse"] as const)("with tokens, over %s", (live) => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({
      redis: redis.url,
      auth: jwt,
      model: "offline",
    });
  });
  afterAll(() => gateway.close());

  test("a token that expires in mid-stream is renewed, and the stream goes on", async () => {
    let asked = 0;
    // The first one is over soon, also if the gateway sees it so late that it is over by then.
    const token = () => tokenFor("ada", { livesSeconds: asked++ === 0 ? 2 : 3600 });
    const newSessionId = (uuid: string) => `ada:${uuid}`;
    await use(gateway, { live, token, newSessionId }, async (client) => {
      const chat = client.session(client.newSessionId());
      let cuts = 0;
      chat.subscribe(() => {
        if (chat.getSnapshot().connection === "offline") cuts += 1;
      });
      await expect.poll(() => cuts).toBeGreaterThan(0);
      const run = await chat.send("Hi! I'm Ada.");
      expect((await chat.settled(run.id)).status).toBe("COMPLETED");
      await expect.poll(() => chat.getSnapshot().messages.map(({ status }) => status)).toEqual(["stored", "stored"]);
    });
  });

  test.each([
    ["no token", null],
    ["a wrong one", "nonsense"],
    ["always the same wrong one", () => "nonsense"],
  ])("with %s it closes, and says why", async (_name, token) => {
    await use(gateway, { live, token }, async (client) => {
      const [chat, list] = [client.session("ada:closed"), client.sessions()];
      for (const store of [chat, list]) store.subscribe(() => undefined);
      for (const store of [chat, list]) {
        await expect.poll(() => store.getSnapshot().connection).toBe("closed");
        expect(store.getSnapshot().error).toMatchObject({ code: "UNAUTHENTICATED" });
      }
      await expect(chat.send("Hi!")).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
      expect(chat.getSnapshot().messages[0]).toMatchObject({ status: "failed", error: { code: "UNAUTHENTICATED" } });
    });
  });

  test("a session of somebody else's is not there", async () => {
    await use(gateway, { live, token: () => tokenFor("ada") }, async (client) => {
      const chat = client.session("bob:private");
      chat.subscribe(() => undefined);
      await expect.poll(() => chat.getSnapshot().connection).toBe("closed");
      expect(chat.getSnapshot().error).toMatchObject({ code: "NOT_FOUND" });
    });
  });
});

test("a gateway that takes known operations alone takes all of the client's, by its operations.json", async () => {
  const gateway = await startGateway({
    redis: redis.url,
    model: "offline",
    persistedOperations: { mode: "only", documents },
  });
  try {
    // Where there is no WebSocket of the platform's own, the one of ws does.
    await use(gateway, { webSocket: WsSocket }, async (client) => {
      expect(await client.viewer()).toMatchObject({ subject: "anonymous", sessions: null });
      expect(await client.models()).toEqual([{ name: "offline", isDefault: true }]);
      const chat = client.session(client.newSessionId());
      const list = client.sessions();
      for (const store of [chat, list]) store.subscribe(() => undefined);
      await chat.settled((await chat.send("Hi! I'm Ada.")).id);
      await chat.settled((await chat.regenerate()).id);
      await chat.generateTitle();
      await expect.poll(() => list.getSnapshot().sessions[0]?.title).toBe("Hi! I'm Ada");
      await expect(client.request("{ models { name } }")).rejects.toMatchObject({ code: "PERSISTED_QUERY_NOT_FOUND" });
    });
  } finally {
    await gateway.close();
  }
});

test("without a WebSocket, as in Node 20, following fails with an error that says which option to give", () => {
  vi.stubGlobal("WebSocket", undefined);
  const client = createParleyClient({ url: "http://127.0.0.1:1/graphql" });
  try {
    expect(() => client.session("jim").subscribe(() => undefined)).toThrow("give the option webSocket");
  } finally {
    client.close();
    vi.unstubAllGlobals();
  }
});
