import { describe, expect, test } from "vitest";
import { isRecentEnough, parsePackageVersion, parseServerVersion } from "../../src/embedded-redis/version.ts";

describe("parseServerVersion", () => {
  test.each([
    ["Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81b8ff71cfb150e", "7.0.15"],
    ["Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=a3fdef44459b3ad6\n", "6.0.16"],
    ["Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", "8.0.1"],
    ["Redis server v=8.2.0-rc1 sha=00000000:1 malloc=libc bits=64 build=1", "8.2.0-rc1"],
  ])("%s", (output, version) => {
    expect(parseServerVersion(output)).toBe(version);
  });

  test.each(["", "redis-cli 7.0.15", "error while loading shared libraries: libjemalloc.so.2", "v=7.0.15"])(
    "nothing of: %s",
    (output) => {
      expect(parseServerVersion(output)).toBeNull();
    },
  );
});

test.each([
  ["5:7.0.15-1~deb12u10", "7.0.15-1~deb12u10"],
  ["5:6.0.16-1ubuntu1", "6.0.16-1ubuntu1"],
  ["8.0.2+dfsg1-1", "8.0.2+dfsg1-1"],
])("package version %s", (version, upstream) => {
  expect(parsePackageVersion(version)).toBe(upstream);
});

test("no package version: (none)", () => {
  expect(parsePackageVersion("(none)")).toBeNull();
});

test("7.0 is the oldest that will do", () => {
  expect(isRecentEnough("6.2.14")).toBe(false);
  expect(isRecentEnough("7.0.0")).toBe(true);
  expect(isRecentEnough("10.0-1")).toBe(true);
});
