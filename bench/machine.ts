import { execFileSync } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { Redis } from "ioredis";

export interface Machine {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly node: string;
  readonly redis: string;
}

export async function thisMachine(redisUrl: string): Promise<Machine> {
  const redis = new Redis(redisUrl);
  const version = /redis_version:(\S+)/.exec(await redis.info("server"))?.[1];
  redis.disconnect();
  return {
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    redis: version ?? "unknown",
  };
}

/** Of the checkout; null where it is none. */
export function commit(): string | null {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      cwd: import.meta.dirname,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return null;
  }
}

export function machineLine({ cores, cpu, memoryGiB, node, redis }: Machine): string {
  return `${cores} × ${cpu}, ${memoryGiB} GiB, Node ${node}, Redis ${redis}`;
}
