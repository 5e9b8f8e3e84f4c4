import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { settings, takeOrders } from "../orders.ts";

/** The stored rows joined, as they lie in Redis: no GraphQL, no owner, no selection. */
const redis = new Redis(settings<{ readonly redisUrl: string }>().redisUrl);

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    // Safe: the benchmark sends it.
    const { sessionId } = JSON.parse(Buffer.concat(chunks).toString("utf8")) as { sessionId: string };
    redis.lrange(sessionId, 0, 49).then(
      (rows) => {
        const body = Buffer.from(`[${rows.reverse().join(",")}]`);
        response.writeHead(200, { "content-type": "application/json", "content-length": body.length }).end(body);
      },
      () => response.writeHead(503).end(),
    );
  });
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
// Safe: a server that listens on TCP has a port.
takeOrders({}, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
