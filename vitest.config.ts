import { defineConfig } from "vitest/config";

/**
 * Once on each shape of Redis, with servers of that shape for each file (test/support/project-topology.ts): all that sees
 * the gateway from outside, without exception, and what drives the store with random commands.
 */
const onEachTopology = ["test/e2e/**/*.test.ts", "test/property/{store,retention,tenants}.test.ts"];
const topologies = ["standalone", "Sentinel", "Cluster"] as const;

export default defineConfig({
  // Vite would take graphql's index.mjs for our sources while Yoga and graphql-ws load its index.js: two realms.
  resolve: { alias: [{ find: /^graphql$/, replacement: "graphql/index.js" }] },
  test: {
    projects: [
      // What needs no Redis, and what brings servers that it chooses itself because it is about them, or about a fault.
      { extends: true, test: { name: "once", include: ["test/**/*.test.ts"], exclude: onEachTopology } },
      ...topologies.map((topology) => ({
        extends: true as const,
        test: { name: topology, include: onEachTopology, provide: { topology } },
      })),
    ],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // One more than the two cores that it is made for: files with redis-server processes of their own wait a third of their time.
    maxWorkers: 3,
    reporters: ["default"],
  },
});
