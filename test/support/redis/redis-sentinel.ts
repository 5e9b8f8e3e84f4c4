import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { infoField } from "../../../src/embedded-redis/probe.ts";
import { command, replicasOnline, waitUntil } from "./redis-command.ts";
import { startRedis } from "./redis-server.ts";
import type { TestRedis } from "./server-process.ts";
import { startServerProcess } from "./server-process.ts";

/** One primary, two replicas, three Sentinels: a quorum of 2, and 1,000 ms until a server counts as down. */
export interface TestSentinel {
  /** For ioredis: new Redis({ sentinels, name }). */
  readonly sentinels: readonly { readonly host: string; readonly port: number }[];
  readonly name: string;
  /** The three data servers, the first primary first. */
  readonly servers: readonly TestRedis[];
  /** What the Sentinels say now. */
  primary(): Promise<TestRedis>;
  primaryUrl(): Promise<string>;
  /** Kills the primary and gives it back: restart() lets it come back as a replica. Does not wait for the failover. */
  killPrimary(): Promise<TestRedis>;
  /** Resolves with the primary that is another than `old` once it says itself that it is one. */
  nextPrimary(old: TestRedis): Promise<TestRedis>;
  stop(): Promise<void>;
}

const name = "parley-test";

/** Resolves when both replicas are online, and all Sentinels know each other and both replicas. */
export async function startSentinel(): Promise<TestSentinel> {
  const primary = await startRedis({ args: quick });
  const servers = [primary];
  const sentinels: TestRedis[] = [];
  try {
    const replicaOf = ["--replicaof", primary.host, String(primary.port)];
    const replicas = await Promise.all([0, 1].map(() => startRedis({ args: [...quick, ...replicaOf] })));
    servers.push(...replicas);
    await waitUntil("both replicas are online", () => replicasOnline(primary, 2));
    sentinels.push(...(await Promise.all([0, 1, 2].map(() => startSentinelProcess(primary)))));
    await waitUntil("the Sentinels know each other", async () => {
      const views = await Promise.all(sentinels.map(knows));
      return views.every((view) => view.replicas === 2 && view.sentinels === 2);
    });
  } catch (error) {
    await Promise.all([...servers, ...sentinels].map((server) => server.stop()));
    throw error;
  }

  const current = async (): Promise<TestRedis> => {
    for (const sentinel of sentinels.filter((each) => each.running)) {
      const [, port] = await command<string[]>(sentinel, "SENTINEL", "get-master-addr-by-name", name);
      const found = servers.find((server) => server.port === Number(port));
      if (found !== undefined) return found;
    }
    throw new Error("no Sentinel knows a primary");
  };
  return {
    sentinels: sentinels.map(({ host, port }) => ({ host, port })),
    name,
    servers,
    primary: current,
    primaryUrl: async () => (await current()).url,
    killPrimary: async () => {
      const old = await current();
      await old.kill();
      return old;
    },
    nextPrimary: async (old) => {
      let next = old;
      await waitUntil("another server is primary", async () => {
        next = await current();
        return next !== old && next.running && (await command<string[]>(next, "ROLE"))[0] === "master";
      });
      return next;
    },
    stop: async () => {
      await Promise.all([...sentinels, ...servers].map((server) => server.stop()));
    },
  };
}

/** A replica's first synchronisation doesn't wait the default 5 s for others. */
const quick = ["--repl-diskless-sync-delay", "0"];

function startSentinelProcess(primary: TestRedis): Promise<TestRedis> {
  return startServerProcess({
    args: async (port, directory) => {
      // A file, since a Sentinel writes what it learns into it.
      const file = join(directory, "sentinel.conf");
      const settings = [
        `port ${port}`,
        "bind 127.0.0.1",
        `dir ${directory}`,
        `sentinel monitor ${name} ${primary.host} ${primary.port} 2`,
        `sentinel down-after-milliseconds ${name} 1000`,
        `sentinel failover-timeout ${name} 5000`,
        `sentinel parallel-syncs ${name} 2`,
      ];
      await writeFile(file, settings.join("\n") + "\n");
      return [file, "--sentinel"];
    },
    answers: async (port, processId) => {
      const info = await command<string>({ host: "127.0.0.1", port }, "INFO", "server").catch(() => "");
      return infoField(info, "process_id") === String(processId);
    },
  });
}

async function knows(sentinel: TestRedis): Promise<{ replicas: number; sentinels: number }> {
  const [replicas, sentinels] = await Promise.all([
    command<unknown[]>(sentinel, "SENTINEL", "replicas", name),
    command<unknown[]>(sentinel, "SENTINEL", "sentinels", name),
  ]);
  return { replicas: replicas.length, sentinels: sentinels.length };
}
