import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { Redis } from "ioredis";
import { mapped, type RedisOptions } from "./connection.ts";

/** Where a server is, as a socket tells it: by IP. */
export interface ServerAddress {
  readonly ips: readonly string[];
  readonly port: number;
}

/**
 * Hears from the Sentinels that the primary is another, and has the connections to the old one dropped: one that was
 * frozen would otherwise hold its commands until their time-out. (ioredis' own detector ends a client for good when it
 * fires while that client is already looking for the new primary.)
 */
export class SentinelWatch {
  readonly #clients: readonly Redis[];

  /** `onSwitch` gets the new primary's address, from each Sentinel as it learns of it. */
  constructor(options: RedisOptions, onSwitch: (primary: ServerAddress) => void) {
    const { sentinels = [], name } = options;
    this.#clients = sentinels.map((address) => {
      const client = new Redis({
        host: address.host ?? "127.0.0.1",
        port: address.port ?? 26_379,
        ...(options.sentinelUsername == null ? {} : { username: options.sentinelUsername }),
        ...(options.sentinelPassword == null ? {} : { password: options.sentinelPassword }),
        ...(options.sentinelTLS ? { tls: options.sentinelTLS } : {}),
        connectionName: "parley-sentinel",
        retryStrategy: (attempt) => Math.min(100 * 2 ** Math.min(attempt, 5), 3000),
        maxRetriesPerRequest: null,
      });
      // One Sentinel that is away is no trouble while others are there; the data connections say what is.
      client.on("error", () => undefined);
      client.on("message", (_channel: string, message: string) => {
        const [switched, , , host = "", port] = message.split(" ");
        if (switched !== name) return;
        const at = mapped(options.natMap ?? undefined, `${host}:${port}`) ?? { host, port: Number(port) };
        addressOf(at).then(onSwitch, () => undefined);
      });
      client.subscribe("+switch-master").catch(() => undefined);
      return client;
    });
  }

  close(): void {
    for (const client of this.#clients) client.disconnect();
  }
}

/** Sentinels may call servers by name (resolve-hostnames); a socket knows its peer by IP. */
async function addressOf({ host, port }: { readonly host: string; readonly port: number }): Promise<ServerAddress> {
  if (isIP(host) !== 0) return { ips: [host], port };
  return { ips: (await lookup(host, { all: true })).map(({ address }) => address), port };
}
