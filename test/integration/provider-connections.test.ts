import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test, type TestContext } from "vitest";
import { silentTelemetry } from "../../src/conversation/ports/telemetry.ts";
import { completedOf, repliesAt, runReply } from "../support/model/reply-requests.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

// A provider as a server of Node's own, whose connections are seen and cut as a test wants it.

const frames = [
  { choices: [{ index: 0, delta: { role: "assistant", content: "Yes" } }] },
  { choices: [{ index: 0, delta: {}, finish_reason: "stop" }], usage: { prompt_tokens: 1, completion_tokens: 1 } },
]
  .map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`)
  .concat("data: [DONE]\n\n")
  .join("");

type Behaviour = "answers" | "cuts" | "cuts in the head";

interface ProviderOptions {
  /** By which request of its connection it is, from 1 on, and how many connections were cut before. */
  readonly behave?: (nth: number, cuts: number) => Behaviour;
  /** `Keep-Alive: timeout=…` of its answers. It keeps the connections itself for longer. */
  readonly keepAliveSeconds?: number | null;
}

/** The context is that of a test which runs beside others. */
async function startProvider(
  { onTestFinished }: TestContext,
  { behave = () => "answers", keepAliveSeconds = null }: ProviderOptions,
) {
  const sockets = new Map<Socket, number>();
  let cuts = 0;
  let reconnects = 0;
  let requests = 0;
  const headers = {
    "content-type": "text/event-stream",
    connection: "keep-alive",
    ...(keepAliveSeconds === null ? {} : { "keep-alive": `timeout=${keepAliveSeconds}` }),
  };
  const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    const { socket } = request;
    const nth = (sockets.get(socket) ?? 0) + 1;
    sockets.set(socket, nth);
    request.resume().on("end", () => {
      requests += 1;
      const behaviour = behave(nth, cuts);
      if (behaviour === "answers") {
        response.writeHead(200, headers).end(frames);
        return;
      }
      cuts += 1;
      if (behaviour === "cuts") socket.destroy();
      else socket.write("HTTP/1.1 2", () => socket.destroy());
    });
  });
  server.on("connection", (socket) => sockets.set(socket, 0));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const telemetry = { ...silentTelemetry, modelReconnected: () => void (reconnects += 1) };
  // Safe: a server that listens at a port has no other address.
  const replies = repliesAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, { telemetry });
  const turn = async () => (await runReply(replies, {})).outcome;
  return {
    turn,
    sockets,
    /** Turns until a connection was cut: it may be free for its second request only a while after the first one's end. */
    turnsUntilCut: async () => {
      let turns = 0;
      for (;;) {
        turns += 1;
        const outcome = await turn();
        if (cuts > 0) return { outcome, resent: requests - turns, reconnects };
        if (turns === 100) throw new Error("No connection was used again");
      }
    },
  };
}

test.concurrent("a connection is kept longer than the 4 s of Node's fetch", async (context) => {
  const { turn, sockets } = await startProvider(context, {});
  completedOf(await turn());
  await sleep(6000);
  completedOf(await turn());
  expect([...sockets.values()]).toEqual([2]);
});

test.concurrent("a connection is closed before the keep-alive time of the server ends", async (context) => {
  const { turn, sockets } = await startProvider(context, { keepAliveSeconds: 4 });
  completedOf(await turn());
  const [socket] = sockets.keys();
  await waitUntil("the connection is closed", () => Promise.resolve(socket?.closed === true));
  // By the gateway: it would have kept a connection of an unknown time for two minutes.
  expect(socket?.readableEnded).toBe(true);
  completedOf(await turn());
  expect([...sockets.values()]).toEqual([1, 1]);
});

test.concurrent("a request over one that the server has closed is sent again, over a new one", async (context) => {
  const { turnsUntilCut } = await startProvider(context, { behave: (nth) => (nth === 1 ? "answers" : "cuts") });
  const { outcome, ...counted } = await turnsUntilCut();
  expect(completedOf(outcome).text).toBe("Yes");
  expect(counted).toEqual({ resent: 1, reconnects: 1 });
});

test.concurrent("a request is sent again only once", async (context) => {
  const behave = (nth: number, cuts: number) => (nth === 1 && cuts === 0 ? "answers" : "cuts");
  const { turnsUntilCut } = await startProvider(context, { behave });
  expect(await turnsUntilCut()).toMatchObject({ outcome: { kind: "failed" }, resent: 1, reconnects: 1 });
});

test.concurrent("a request is not sent again after a byte of the answer", async (context) => {
  const behave = (nth: number) => (nth === 1 ? "answers" : "cuts in the head");
  const { turnsUntilCut } = await startProvider(context, { behave });
  expect(await turnsUntilCut()).toMatchObject({ outcome: { kind: "failed" }, resent: 0, reconnects: 0 });
});

test.concurrent("a request is not sent again if its connection was new", async (context) => {
  const { turnsUntilCut } = await startProvider(context, { behave: () => "cuts" });
  expect(await turnsUntilCut()).toMatchObject({ outcome: { kind: "failed" }, resent: 0, reconnects: 0 });
});
