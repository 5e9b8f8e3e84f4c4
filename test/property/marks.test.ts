import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { markOf } from "../../src/conversation/message/ids.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { readScript } from "../../src/redis/scripts/scripts.ts";
import { checkProperty } from "../support/store/property.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// A row's mark is made in two places: of its bytes by a script, of what it is decoded to by a process. Foreign code may
// write any bytes, and where the two differed a healthy history would look like a loss.

const key = "s";
const marksOfList = `#!lua flags=no-writes
${readScript("base")}
${readScript("mark")}
local marked = {}
for i, raw in ipairs(call('LRANGE', H, 0, -1)) do marked[i] = mark(raw) end
return marked`;

let server: TestRedis;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
});
beforeEach(() => redis.flushdb());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

async function expectSameMarks(rows: readonly Uint8Array[]): Promise<void> {
  await redis.del(key);
  await redis.rpush(key, ...rows.map((row) => Buffer.from(row)));
  const { all } = sessionKeys(key);
  const inScript = await redis.eval(marksOfList, all.length, ...all, "PUBLISH", "*", "0");
  const read = await redis.lrange(key, 0, -1);
  expect(inScript).toEqual(read.map(markOf));
}

/** The first and the last byte of each range that UTF-8 tells from others, and their neighbours. */
const edges = [
  ...[0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee],
  ...[0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff],
];

test("four bytes at the edges of all ranges, in each order", async () => {
  for (const first of edges) {
    const rows = edges.map((second) => {
      const fours = edges.flatMap((third) => edges.map((fourth) => [first, second, third, fourth, 0x7c]));
      return Uint8Array.from(fours.flat());
    });
    await expectSameMarks(rows);
  }
});

test("each two bytes, ended by the row", async () => {
  for (let first = 0x80; first <= 0xff; first++) {
    await expectSameMarks(Array.from({ length: 256 }, (_, second) => Uint8Array.of(0x61, first, second)));
  }
});

test("any bytes, and any text of which bytes are missing or changed", async () => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  const near = fc.array(fc.constantFrom(...edges), { maxLength: 40 }).map((some) => Uint8Array.from(some));
  const text = fc.string({ unit: "binary" }).map((some) => Buffer.from(some));
  const damaged = fc
    .tuple(text, fc.nat(), fc.nat(), fc.uint8Array({ maxLength: 2 }))
    .map(([whole, from, count, put]) => {
      const at = whole.length === 0 ? 0 : from % whole.length;
      return Buffer.concat([whole.subarray(0, at), put, whole.subarray(at + (count % 3))]);
    });
  const row = fc.oneof(bytes, near, text, damaged);
  await checkProperty(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 30 }), (rows) => expectSameMarks(rows)),
    { runs: 300 },
  );
});

test("rows that come in many pieces, cut anywhere", async () => {
  const cases = [[0xe9], [0xf0, 0x9f, 0x98, 0x80], [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0xed, 0xa0, 0x80], [0x80]];
  const rows = cases.map((unit) => Buffer.alloc(300_000 + unit.length - 1, Buffer.from(unit)));
  await expectSameMarks(rows);
});
