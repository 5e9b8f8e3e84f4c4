import type { Redis } from "ioredis";

/** What of a server's configuration costs a promise, each in one sentence with its price. */
export async function adviceFor(
  redis: Redis,
  keyspaceEvents: boolean,
  listEvents: boolean,
): Promise<readonly string[]> {
  const advice: string[] = [];
  if (!keyspaceEvents) {
    advice.push(
      "Keyspace notifications are off in Redis: what other programs write is seen within a second, not at once, and costs a reading a second for each followed session. REDIS_KEYSPACE_EVENTS=enable switches them on (KEglxe$).",
    );
  }
  if (keyspaceEvents && !listEvents) {
    advice.push(
      "Keyspace notifications lack E in Redis: an open list of sessions sees what other programs write within FEED_CHECK_MS, not at once. REDIS_KEYSPACE_EVENTS=enable adds it; with LIST_KEYSPACE_EVENTS=off it is not missed.",
    );
  }
  const [policy, appendonly, save] = await Promise.all(
    ["maxmemory-policy", "appendonly", "save"].map((name) => setting(redis, name)),
  );
  if (policy !== null && policy !== "noeviction") {
    advice.push(
      `maxmemory-policy is ${policy}: a full Redis throws conversations away (readers are told by HistoryReset). noeviction refuses writes instead.`,
    );
  }
  if (appendonly === "no" && save === "") {
    advice.push("Redis keeps nothing on disk: all conversations are gone when it restarts. appendonly yes keeps them.");
  } else if (appendonly === "no") {
    advice.push(
      "Redis keeps snapshots only: what was written since the last one is lost when it crashes. appendonly yes keeps it.",
    );
  }
  return advice;
}

/** null: the server does not tell (managed services forbid CONFIG). */
export async function setting(redis: Redis, name: string): Promise<string | null> {
  let reply: unknown;
  try {
    reply = await redis.config("GET", name);
  } catch (error) {
    if (error instanceof Error && error.name === "ReplyError") return null;
    throw error;
  }
  if (Array.isArray(reply)) return reply.length > 1 ? String(reply[1]) : null;
  if (reply instanceof Map) return reply.has(name) ? String(reply.get(name)) : null;
  if (typeof reply === "object" && reply !== null && name in reply) return String(Object.entries(reply)[0]?.[1]);
  return null;
}
