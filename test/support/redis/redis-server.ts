import { probeServer } from "../../../src/embedded-redis/probe.ts";
import type { TestRedis } from "./server-process.ts";
import { startServerProcess } from "./server-process.ts";

export type { TestRedis } from "./server-process.ts";

export interface RedisOptions {
  /** Further settings as on redis-server's command line: ["--maxmemory", "10mb"]. They win over the defaults. */
  readonly args?: readonly string[];
  readonly port?: number;
  /** Kept by stop(); without it there is a temporary one, which stop() removes. */
  readonly directory?: string;
  /** Default true, with `appendfsync everysec`. */
  readonly appendonly?: boolean;
}

/**
 * Starts a real redis-server and waits until it answers: on 127.0.0.1, with `notify-keyspace-events KEglxe$`, without
 * RDB snapshots, and killed when this process ends, however it ends. Rejects with the tail of its log.
 */
export function startRedis(options: RedisOptions = {}): Promise<TestRedis> {
  const extra = options.args ?? [];
  const passwordAt = extra.indexOf("--requirepass") + 1;
  const password = passwordAt > 0 ? (extra[passwordAt] ?? null) : null;
  return startServerProcess({
    port: options.port,
    directory: options.directory,
    password,
    args: (port) => [
      ...["--port", String(port), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""],
      ...["--appendonly", (options.appendonly ?? true) ? "yes" : "no", "--appendfsync", "everysec"],
      ...["--notify-keyspace-events", "KEglxe$"],
      ...extra,
    ],
    answers: async (port, processId) => {
      const probe = await probeServer({ port, password });
      // The process id tells it from another server that has taken the port.
      return probe.kind === "ready" && probe.processId === processId;
    },
  });
}
