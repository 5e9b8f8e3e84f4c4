import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Each test file has redis-server processes of its own; more files at once than cores only makes them wait for each other.
    maxWorkers: 2,
    reporters: ["default"],
  },
});
