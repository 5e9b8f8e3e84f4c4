import { cpus } from "node:os";
import { startRedis } from "../test/support/redis-server.ts";
import { historyPages } from "./history-pages.ts";
import { turns } from "./turns.ts";

const benchmarks = { turns, "history-pages": historyPages } as const;

/** `npm run bench` runs all, `npm run bench -- NAME` one. Ratios are to the first line of each block. */
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
process.exit();
