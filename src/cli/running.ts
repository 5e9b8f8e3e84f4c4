import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, type Config } from "../config/load.ts";
import type { Gateway } from "../gateway.ts";
import { describeError } from "../telemetry/logging.ts";
import type { Ready, StartFailure } from "./workers/messages.ts";
import { WorkerFailed } from "./workers/workers.ts";

/** What `parley` runs: a gateway in this process, or workers. */
export interface Running {
  /** Of the redis-server that runs with it; null: it uses the caller's. */
  readonly redisUrl: string | null;
  listen(): Promise<Ready>;
  close(graceMs: number): Promise<void>;
}

/** The gateway in this process. */
export function runningGateway(gateway: Gateway, { host, port, production }: Config): Running {
  return {
    redisUrl: gateway.redisUrl,
    async listen() {
      const { url } = await gateway.listen({ host, port });
      return { url, model: gateway.modelName, redisAnswers: production || (await isReady(gateway, url)) };
    },
    close: (graceMs) => gateway.close({ graceMs }),
  };
}

/** Its connections to Redis may be there a moment after it listens. */
async function isReady(gateway: Gateway, url: string): Promise<boolean> {
  const until = performance.now() + 5000;
  for (;;) {
    const { ok } = await gateway.fetch(new Request(`${url}/readyz`));
    if (ok || performance.now() >= until) return ok;
    await sleep(20);
  }
}

export function startFailure(error: unknown, config: Config): StartFailure {
  if (error instanceof WorkerFailed) return error.failure;
  // By their names: their classes come with ioredis and graphql, which a mistake in the configuration does not wait for.
  if (error instanceof Error && error.name === "PersistedOperationsError") {
    return { exitCode: 2, message: error.message, error: null };
  }
  if (error instanceof Error && error.name === "FolderError") {
    const message = mistakesText(new ConfigError([{ variable: "DATA_DIR", message: error.message }]));
    return { exitCode: 2, message, error: null };
  }
  return { exitCode: 1, message: explained(error, config), error: describeError(error) };
}

export function mistakesText({ message }: ConfigError): string {
  return `${message}\n\nparley --help lists all variables.`;
}

function explained(error: unknown, { host, port }: Config): string {
  const code = error instanceof Error && "code" in error ? error.code : null;
  if (code === "EADDRINUSE") return `Port ${port} of ${host} is taken. Set PORT to another one, or to 0 for any.`;
  if (code === "EACCES" && error instanceof Error && "path" in error)
    return `${String(error.path)} may not be written.`;
  if (code === "EACCES") return `Port ${port} of ${host} may not be used. Set PORT to one above 1023.`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return `${host} is no address of this machine. Set HOST.`;
  return "Parley could not start.";
}
