import { cpus } from "node:os";
import { startRedis } from "../test/support/redis-server.ts";
import { historyPages } from "./history-pages.ts";
import { memory } from "./memory.ts";
import { turns } from "./turns.ts";

const benchmarks = { turns, "history-pages": historyPages, memory } as const;

/** `npm run bench` runs all, `npm run bench -- NAME` one. Ratios are to the first line of each block. */
// Connections that are closed leave nothing that would keep the process until the server has stopped.
const alive = setInterval(() => undefined, 1000);
const wanted = process.argv.slice(2);
for (const [name, run] of Object.entries(benchmarks)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const redis = await startRedis();
  try {
    await run(redis.url);
  } finally {
    await redis.stop();
  }
}
process.stdout.write(`\n${cpus().length} × ${cpus()[0]?.model ?? "?"}, Node ${process.version}\n`);
clearInterval(alive);
process.exit();
