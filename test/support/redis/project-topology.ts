import type { Cluster, Redis } from "ioredis";
import { inject } from "vitest";
import { command } from "./redis-command.ts";
import type { TestRedis } from "./redis-server.ts";
import { topologies, type TestTopology } from "./topologies.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Which one the test file's project runs on: see vitest.config.ts. */
    topology: keyof typeof topologies;
  }
}

/** The shape of Redis that this run of the test file is for. */
export const topologyName = inject("topology");

interface Kept {
  readonly topology: TestTopology;
  /** Each server's configuration as it was when it started. */
  readonly configurations: readonly (readonly string[])[];
}

/** Servers that no test file of this worker uses now: empty, and configured as they were started. */
const free: Kept[] = [];

/**
 * Servers in that shape, to one user at a time. stop() empties them and gives them to the next: six servers of a cluster
 * take seconds to start. A test may configure them as it likes, and must close all that is connected to them before stop().
 * A test that stops a server, or moves its slots, belongs to test/faults and starts servers of its own.
 */
export async function startTopology(): Promise<TestTopology> {
  const kept = free.pop() ?? (await keep(await topologies[topologyName]()));
  const clients: (Redis | Cluster)[] = [];
  return {
    ...kept.topology,
    raw(options) {
      const client = kept.topology.raw(options);
      clients.push(client);
      return client;
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await reset(kept);
      free.push(kept);
    },
  };
}

async function keep(topology: TestTopology): Promise<Kept> {
  return { topology, configurations: await Promise.all(topology.servers.map(configurationOf)) };
}

function configurationOf(server: TestRedis): Promise<string[]> {
  return command<string[]>(server, "CONFIG", "GET", "*");
}

async function reset({ topology, configurations }: Kept): Promise<void> {
  await Promise.all(
    topology.servers.map(async (server, i) => {
      const [role] = await command<[string]>(server, "ROLE");
      if (role === "master") await command(server, "FLUSHALL");
      await command(server, "SCRIPT", "FLUSH");
      const before = configurations[i] ?? [];
      const now = await configurationOf(server);
      for (let at = 0; at < now.length; at += 2) {
        const [name = "", value = ""] = [now[at], before[before.indexOf(now[at] ?? "") + 1]];
        if (value !== now[at + 1]) await command(server, "CONFIG", "SET", name, value);
      }
    }),
  );
}
