import type { Redis } from "ioredis";

/** What the redis-server's main thread has used so far, user and system time, and what it has sent: by its own account. */
export interface RedisUsage {
  readonly cpuUs: number;
  readonly outBytes: number;
}

export async function redisUsage(redis: Redis): Promise<RedisUsage> {
  const text = await redis.info();
  const field = (name: string) => Number(new RegExp(`^${name}:(.+)`, "m").exec(text)?.[1] ?? Number.NaN);
  return {
    cpuUs: (field("used_cpu_user_main_thread") + field("used_cpu_sys_main_thread")) * 1e6,
    outBytes: field("total_net_output_bytes"),
  };
}
