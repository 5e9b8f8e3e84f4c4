import { describe, expect, test } from "vitest";
import { isRecentEnough, parsePackageVersion, parseServerVersion } from "../../src/embedded-redis/version.ts";

describe("parseServerVersion", () => {
  test.each([
    [
      "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81b8ff71cfb150e",
      "redis",
      "7.0.15",
      7,
      0,
    ],
    [
      "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=a3fdef44459b3ad6\n",
      "redis",
      "6.0.16",
      6,
      0,
    ],
    ["Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", "valkey", "8.0.1", 8, 0],
    ["Redis server v=8.2.0-rc1 sha=00000000:1 malloc=libc bits=64 build=1", "redis", "8.2.0-rc1", 8, 2],
  ])("%s", (output, product, text, major, minor) => {
    expect(parseServerVersion(output)).toEqual({ product, text, major, minor });
  });

  test.each(["", "redis-cli 7.0.15", "error while loading shared libraries: libjemalloc.so.2", "v=7.0.15"])(
    "nothing of: %s",
    (output) => {
      expect(parseServerVersion(output)).toBeNull();
    },
  );
});

test.each([
  ["5:7.0.15-1~deb12u10", 7, 0],
  ["5:6.0.16-1ubuntu1", 6, 0],
  ["8.0.2+dfsg1-1", 8, 0],
])("package version %s", (version, major, minor) => {
  expect(parsePackageVersion(version)).toEqual({ major, minor });
});

test("no package version: (none)", () => {
  expect(parsePackageVersion("(none)")).toBeNull();
});

test("7.0 is the oldest that will do", () => {
  expect(isRecentEnough({ major: 6, minor: 2 })).toBe(false);
  expect(isRecentEnough({ major: 7, minor: 0 })).toBe(true);
  expect(isRecentEnough({ major: 10, minor: 0 })).toBe(true);
});
