import { defineConfig } from "vitest/config";

export default defineConfig({
  // Vite would take graphql's index.mjs for our sources while Yoga and graphql-ws load its index.js: two realms.
  resolve: { alias: [{ find: /^graphql$/, replacement: "graphql/index.js" }] },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Each test file has redis-server processes of its own; more files at once than cores only makes them wait for each other.
    maxWorkers: 2,
    reporters: ["default"],
  },
});
