import type { Config, Environment } from "../../config/load.ts";
import { startEmbeddedRedis } from "../../embedded-redis/embedded.ts";
import type { Logger } from "../../gateway.ts";
import { Workers } from "./workers.ts";
import type { Running } from "../running.ts";

/** WORKERS processes in place of one: Parley's own Redis is this process', and what clients ask is the workers'. */
export async function openWorkers(config: Config, environment: Environment, logger: Logger): Promise<Running> {
  const { workers: count, host, port, redis } = config;
  const onProgress = (text: string) => logger.info({}, text);
  const embedded =
    redis.kind === "embedded"
      ? await startEmbeddedRedis({ directory: redis.directory, environment, onProgress })
      : null;
  const redisUrl = embedded?.url ?? null;
  const { GatheredMetrics } = await import("../../telemetry/gathered-metrics.ts");
  const metrics = config.metrics ? (ready: () => number) => new GatheredMetrics(ready) : null;
  const workers = new Workers({ count, host, port, redisUrl, logger, metrics });
  return {
    redisUrl,
    listen: () => workers.start(),
    async close(graceMs) {
      try {
        await workers.close(graceMs);
      } finally {
        await embedded?.stop();
      }
    },
  };
}
