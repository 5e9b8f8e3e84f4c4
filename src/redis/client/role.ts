import type { Redis } from "ioredis";

/** Which server a connection leads to, and as what. HELLO and INFO need no rights beyond those of docs/redis.md. */

/** Whether the server was demoted, or was never a primary. Rejects where it does not answer. */
export async function isReplica(redis: Redis): Promise<boolean> {
  // A caller's client may speak RESP2, in which a subscriber cannot ask.
  if (redis.options.protocol === 2) {
    await redis.ping();
    return false;
  }
  const told = await redis.call("HELLO");
  return Array.isArray(told) && told[told.indexOf("role") + 1] !== "master";
}

/** null: this server does not say. Rejects where it does not answer. */
export async function runIdOf(redis: Redis): Promise<string | null> {
  try {
    return /^run_id:(\w+)/m.exec(await redis.info("server"))?.[1] ?? null;
  } catch (error) {
    if (error instanceof Error && error.name === "ReplyError") return null;
    throw error;
  }
}
