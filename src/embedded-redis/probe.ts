import { Redis } from "ioredis";

export interface Endpoint {
  readonly port: number;
  /** null: the server asks for none. */
  readonly password: string | null;
}

/** What one attempt to talk to a server on 127.0.0.1 found. */
type Probe =
  | {
      readonly kind: "ready";
      readonly version: string;
      readonly processId: number;
      /** Its working directory, where its data lies. */
      readonly directory: string;
    }
  /** It reads its append-only file. */
  | { readonly kind: "loading" }
  /** Nothing listens, or nothing answers in time; foreign: something answers that is no Redis with this password. */
  | { readonly kind: "silent" | "foreign" };

const answerTimeoutMs = 2_000;

/** Never throws; settles within a few seconds. */
export async function probeServer(endpoint: Endpoint): Promise<Probe> {
  const redis = new Redis({
    host: "127.0.0.1",
    port: endpoint.port,
    ...(endpoint.password === null ? {} : { password: endpoint.password }),
    lazyConnect: true,
    // The handshake must not wait for the end of loading: that is what we want to hear about.
    enableReadyCheck: false,
    disableClientInfo: true,
    retryStrategy: null,
    connectTimeout: answerTimeoutMs,
    commandTimeout: answerTimeoutMs,
  });
  let cause: unknown;
  redis.on("error", (error: unknown) => {
    cause ??= error;
  });
  try {
    await redis.connect();
    await redis.ping();
    const info = await redis.info("server");
    const directory = await redis.config("GET", "dir"); // name and value, by the RESP2 mapping that is ioredis' default
    return {
      kind: "ready",
      version: infoField(info, "valkey_version") ?? infoField(info, "redis_version") ?? "unknown",
      processId: Number(infoField(info, "process_id")),
      directory: directory[1] ?? "",
    };
  } catch (error) {
    return failure(cause ?? error);
  } finally {
    redis.disconnect();
  }
}

function failure(error: unknown): Probe {
  const reason = error instanceof Error ? error.message : String(error);
  if (reason.startsWith("LOADING")) return { kind: "loading" };
  // A reply of a server begins with its code in capitals; whatever else failed did so on the way.
  return { kind: /^[A-Z]{3,} /.test(reason) ? "foreign" : "silent" };
}

/** A field of INFO, or null. */
export function infoField(info: string, name: string): string | null {
  return new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1] ?? null;
}
