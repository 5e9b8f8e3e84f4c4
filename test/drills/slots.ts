import calculateSlot from "cluster-key-slot";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { command } from "../support/redis/redis-command.ts";

/** Moves slots of a live cluster one after the other, as redis-cli --cluster reshard does. */
export async function moveSlots(
  slots: readonly number[],
  from: TestRedis,
  to: TestRedis,
  primaries: readonly TestRedis[],
): Promise<void> {
  const [fromId, toId] = await Promise.all([from, to].map((server) => command<string>(server, "CLUSTER", "MYID")));
  for (const slot of slots.map(String)) {
    await command(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromId ?? "");
    await command(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toId ?? "");
    for (;;) {
      const keys = await command<string[]>(from, "CLUSTER", "GETKEYSINSLOT", slot, "10");
      if (keys.length === 0) break;
      await command(from, "MIGRATE", to.host, String(to.port), "", "0", "5000", "KEYS", ...keys);
    }
    // The new owner first: until it knows, nobody would.
    for (const server of [to, from, ...primaries.filter((one) => one !== to && one !== from)]) {
      await command(server, "CLUSTER", "SETSLOT", slot, "NODE", toId ?? "");
    }
  }
}

export function slotOfKey(key: string): number {
  return calculateSlot(key);
}
