import { defineConfig } from "vitest/config";

import { propertyRuns } from "./test/support/store/property-runs.ts";

/**
 * Once on each shape of Redis, with servers of that shape for each file (test/support/redis/project-topology.ts): all that sees
 * the gateway from outside, without exception, and what drives the store with random commands.
 */
const onEachTopology = ["test/e2e/**/*.test.ts", "test/property/{store,retention,tenants}.test.ts"];
const topologies = ["standalone", "Sentinel", "Cluster"] as const;

/** What needs no Redis. */
const alone = ["test/unit/**/*.test.ts", "test/conformance/**/*.test.ts"];

export default defineConfig({
  // Vite would take graphql's index.mjs for our sources while Yoga and graphql-ws load its index.js: two realms.
  resolve: { alias: [{ find: /^graphql$/, replacement: "graphql/index.js" }] },
  test: {
    projects: [
      // Where nothing is measured of the process or left behind in it, a worker's files share it and import each module once.
      { extends: true, test: { name: "unit", include: alone, isolate: false } },
      // What starts the servers that it is about. Its files close what they open, so they share a process as well.
      { extends: true, test: { name: "integration", include: ["test/integration/**/*.test.ts"], isolate: false } },
      // What runs in a page: in one that happy-dom makes and leaves behind in its process, or in a Chromium, which is unpacked first.
      {
        extends: true,
        test: {
          name: "pages",
          include: ["test/pages/**/*.test.ts"],
          globalSetup: ["test/support/browser/unpack-chromium.ts"],
        },
      },
      // Attacks, faults and random commands: some of them measure the process that they run in.
      {
        extends: true,
        test: {
          name: "faults",
          include: ["test/**/*.test.ts"],
          exclude: [...onEachTopology, ...alone, "test/integration/**", "test/pages/**"],
        },
      },
      ...topologies.map((topology) => ({
        extends: true as const,
        test: { name: topology, include: onEachTopology, provide: { topology }, isolate: false },
      })),
    ],
    // Limits for what never comes. A machine that is thirty times as slow as usual keeps within them.
    testTimeout: 180_000 * propertyRuns,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
    // One more than the cores of the smallest machine: most of a file's time is waiting for real leases, TTLs and time-outs.
    maxWorkers: 3,
    reporters: ["default"],
  },
});
