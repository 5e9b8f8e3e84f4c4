import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { startGateway } from "../support/gateway/gateway.ts";
import { request } from "../support/gateway/graphql-client.ts";
import { startRedis } from "../support/redis/redis-server.ts";

test("a query that fails reads Redis once, as one that does not", async () => {
  const server = await startRedis({ appendonly: false });
  const at = await startGateway({ redis: server.url, model: "offline" });
  const redis = new Redis(server.url);
  try {
    // A whole turn, which has what answers imported: nothing is left to be loaded when the test is over.
    const send = `mutation { sendMessage(input: { sessionId: "once", text: "Hello" }) { reply { text } } }`;
    expect((await request(at.url, send)).errors).toBeUndefined();
    // The log of slow commands, of which each is one now, holds what was asked.
    await redis.config("SET", "slowlog-log-slower-than", "0");
    const scriptsOf = async (page: string) => {
      await redis.slowlog("RESET");
      const query = `{ session(sessionId: "once") { title messages(${page}) { nodes { text } } } }`;
      const { errors = [] } = await request(at.url, query);
      const log = (await redis.slowlog("GET", -1)) as [id: number, time: number, us: number, command: string[]][];
      const scripts = log.filter(
        ([, , , [name = "", ...given]]) => name === "evalsha" && given.join().includes("once"),
      );
      return { codes: errors.map(({ extensions }) => extensions?.["code"]), scripts: scripts.length };
    };
    // The script is sent once, and called by its hash from then on.
    await request(at.url, '{ session(sessionId: "once") { title } }');
    // The first time its document is new, and its plan with it.
    for (let time = 0; time < 3; time++) {
      expect(await scriptsOf("last: 2")).toEqual({ codes: [], scripts: 1 });
      expect(await scriptsOf('before: "none"')).toEqual({ codes: ["INVALID_CURSOR"], scripts: 1 });
    }
  } finally {
    redis.disconnect();
    await at.close();
    await server.stop();
  }
});
