import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { startGateway } from "../support/gateway/gateway.ts";
import { request } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";

test("a query that fails reads Redis once, as one that does not", async () => {
  const server = await startRedis({ appendonly: false });
  const at = await startGateway({ redis: server.url, model: "offline" });
  const redis = new Redis(server.url);
  const monitor = await redis.monitor();
  try {
    // A whole turn, which has what answers imported: nothing is left to be loaded when the test is over.
    const send = `mutation { sendMessage(input: { sessionId: "once", text: "Hello" }) { reply { text } } }`;
    expect((await request(at.url, send)).errors).toBeUndefined();
    const scripts: string[] = [];
    const marks = new Set<string>();
    monitor.on("monitor", (_time: string, [command = "", ...args]: string[]) => {
      if (command === "evalsha" && args.some((arg) => arg.includes("once"))) scripts.push(args.join(" "));
      if (command === "echo") marks.add(args[0] ?? "");
    });
    const scriptsOf = async (page: string) => {
      const query = `{ session(sessionId: "once") { title messages(${page}) { nodes { text } } } }`;
      const { errors = [] } = await request(at.url, query);
      // What Redis did before is told before.
      const mark = randomUUID();
      await redis.echo(mark);
      await waitUntil("the monitor has told all", () => Promise.resolve(marks.has(mark)));
      return { codes: errors.map(({ extensions }) => extensions?.["code"]), scripts: scripts.splice(0).length };
    };
    // The script is sent once, and called by its hash from then on.
    await request(at.url, '{ session(sessionId: "once") { title } }');
    // The first time its document is new, and its plan with it.
    for (let time = 0; time < 3; time++) {
      expect(await scriptsOf("last: 2")).toEqual({ codes: [], scripts: 1 });
      expect(await scriptsOf('before: "none"')).toEqual({ codes: ["INVALID_CURSOR"], scripts: 1 });
    }
  } finally {
    monitor.disconnect();
    redis.disconnect();
    await at.close();
    await server.stop();
  }
});
