import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * Below the range that systems give to outgoing connections (32768 and up on Linux, 49152 on others): such a port is
 * not taken by some client's connection while its server restarts.
 */
const lowest = 12_000;
const highest = 32_000;

/**
 * A TCP port that nobody listens on now. Another process may still take it before the caller does.
 * @throws where nobody can listen on the address at all
 */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = randomInt(lowest, highest);
    if (await isFree(port, host)) return port;
  }
  throw new Error(`no free TCP port between ${lowest} and ${highest} on ${host}`);
}

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE" || error.code === "EACCES") resolve(false);
      else reject(error);
    });
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
