import { createInterface } from "node:readline";
import { startEmbeddedRedis } from "../../../src/embedded-redis/embedded.ts";

// A gateway as far as its embedded server is concerned: `node embedded-redis-process.ts <folder>` says what it got in
// one line of JSON, and leaves when it reads a line.
const directory = process.argv[2];
if (directory === undefined) throw new Error("usage: embedded-redis-process.ts <folder>");
try {
  const { stop, ...got } = await startEmbeddedRedis({ directory, environment: process.env });
  console.log(JSON.stringify(got));
  createInterface({ input: process.stdin }).once("line", () => void stop().then(() => process.exit(0)));
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }));
  process.exit(1);
}
