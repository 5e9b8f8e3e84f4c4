/** Scripts that start with `#!lua`, sharded pub/sub, the multi-part append-only file: all came with 7.0. */
export const oldestVersion = "7.0";

/** Every Valkey is a Redis 7.2 or later, so that one comparison serves both. `version`: "7.0.15", say. */
export function isRecentEnough(version: string): boolean {
  return Number.parseInt(version, 10) >= 7;
}

/** Reads `Redis server v=7.0.15 sha=…` or `Valkey server v=8.0.1 …`; null for anything else. */
export function parseServerVersion(output: string): string | null {
  return /^(?:Redis|Valkey) server v=(\d+\.\d+\S*)/im.exec(output)?.[1] ?? null;
}

/** Debian's package version without its epoch: "5:7.0.15-1~deb12u10" is 7.0.15-1~deb12u10; null for what is none. */
export function parsePackageVersion(version: string): string | null {
  return /^(?:\d+:)?(\d+\.\d+.*)/.exec(version)?.[1] ?? null;
}
