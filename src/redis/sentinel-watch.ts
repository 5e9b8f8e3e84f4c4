import { Redis } from "ioredis";
import type { RedisOptions } from "./connection.ts";

/**
 * Hears from the Sentinels that the primary is another, and has the connections to the old one dropped: one that was
 * frozen would otherwise hold its commands until their time-out. (ioredis' own detector ends a client for good when it
 * fires while that client is already looking for the new primary.)
 */
export class SentinelWatch {
  readonly #clients: readonly Redis[];

  /** `onSwitch` gets the new primary's port. */
  constructor(options: RedisOptions, onSwitch: (port: number) => void) {
    const { sentinels = [], name } = options;
    this.#clients = sentinels.map((address) => {
      const client = new Redis({
        host: address.host ?? "127.0.0.1",
        port: address.port ?? 26_379,
        ...(options.sentinelUsername == null ? {} : { username: options.sentinelUsername }),
        ...(options.sentinelPassword == null ? {} : { password: options.sentinelPassword }),
        ...(options.sentinelTLS && options.enableTLSForSentinelMode ? { tls: options.sentinelTLS } : {}),
        connectionName: "parley-sentinel",
        retryStrategy: (attempt) => Math.min(100 * 2 ** Math.min(attempt, 5), 3000),
        maxRetriesPerRequest: null,
      });
      // One Sentinel that is away is no trouble while others are there; the data connections say what is.
      client.on("error", () => undefined);
      client.on("message", (_channel: string, message: string) => {
        const [switched, , , , port] = message.split(" ");
        if (switched === name) onSwitch(Number(port));
      });
      client.subscribe("+switch-master").catch(() => undefined);
      return client;
    });
  }

  close(): void {
    for (const client of this.#clients) client.disconnect();
  }
}
