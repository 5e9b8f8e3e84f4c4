import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * Below the range that systems give to outgoing connections (32768 and up on Linux, 49152 on others): such a port is
 * not taken by some client's connection while its server restarts.
 */
const lowest = 12_000;
const highest = 32_000;

/** A TCP port on 127.0.0.1 that nobody listens on now. Another process may still take it before the caller does. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = randomInt(lowest, highest);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free TCP port between ${lowest} and ${highest} on 127.0.0.1`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
