/** A redis-server's version, as `--version` and INFO have it. */
export interface ServerVersion {
  readonly product: "redis" | "valkey";
  /** E.g. "7.0.15". */
  readonly text: string;
  readonly major: number;
  readonly minor: number;
}

/** Scripts that start with `#!lua`, sharded pub/sub, the multi-part append-only file: all came with 7.0. */
export const oldestVersion = "7.0";

/** Reads `Redis server v=7.0.15 sha=…` or `Valkey server v=8.0.1 …`; null for anything else. */
export function parseServerVersion(output: string): ServerVersion | null {
  const match = /^(Redis|Valkey) server v=((\d+)\.(\d+)\S*)/im.exec(output);
  const [, product, text, major, minor] = match ?? [];
  if (product === undefined || text === undefined) return null;
  return {
    product: product.toLowerCase() === "valkey" ? "valkey" : "redis",
    text,
    major: Number(major),
    minor: Number(minor),
  };
}

/** Debian's package version without epoch and revision: "5:7.0.15-1~deb12u10" is 7.0. */
export function parsePackageVersion(version: string): { readonly major: number; readonly minor: number } | null {
  const match = /^(?:\d+:)?(\d+)\.(\d+)/.exec(version);
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]) };
}

/** Every Valkey is a Redis 7.2 or later, so that one comparison serves both. */
export function isRecentEnough(version: { readonly major: number; readonly minor: number }): boolean {
  return version.major >= 7;
}
