import { createHash } from "node:crypto";
import type { Telemetry } from "../conversation/telemetry.ts";
import type { Client } from "./connection.ts";
import type { Topology } from "./topology.ts";
import { plainScripts, scriptText, sessionScripts, type ScriptName } from "./scripts.ts";

/** What a connection begins with; some servers know not all of it, and that is no failure. */
const handshake = new Set(["hello", "auth", "client", "select"]);

/** Script by the hash that EVALSHA names it with. */
let scripts: ReadonlyMap<string, string> | null = null;

function scriptNames(): ReadonlyMap<string, string> {
  scripts ??= new Map(
    (Object.keys({ ...sessionScripts, ...plainScripts }) as ScriptName[]) // the keys of both records
      .flatMap((name) => [[createHash("sha1").update(scriptText(name)).digest("hex"), name] as const]),
  );
  return scripts;
}

/** Tells how long each command of this connection takes, a script under its own name, and that a lost connection is back. */
export function measure(redis: Client, role: string, telemetry: Telemetry): void {
  const names = scriptNames();
  // ioredis sends a command anew through the same door when a connection is back: one command, one time.
  const told = new WeakSet<object>();
  const send = redis.sendCommand.bind(redis);
  redis.sendCommand = (...[command, ...rest]: Parameters<typeof send>) => {
    if (told.has(command) || handshake.has(command.name)) return send(command, ...rest);
    told.add(command);
    const startedAt = performance.now();
    const [hash] = command.args;
    const script = command.name === "evalsha" && typeof hash === "string" ? names.get(hash) : undefined;
    const name = script ?? command.name.toLowerCase();
    const tell = (failed: boolean) => telemetry.redisCommand(name, (performance.now() - startedAt) / 1000, failed);
    command.promise.then(
      () => tell(false),
      (error: unknown) => tell(!isUnknownScript(error)),
    );
    return send(command, ...rest);
  };
  let lost = false;
  redis.on("close", () => {
    lost = true;
  });
  redis.on("ready", () => {
    if (lost) telemetry.redisReconnected(role);
    lost = false;
  });
}

/** The same, of which each connection that place() gives is measured too. */
export function measured(topology: Topology, telemetry: Telemetry): Topology {
  return {
    ...topology,
    place(slot) {
      const place = topology.place(slot);
      return (
        place && {
          name: place.name,
          connect(role) {
            const redis = place.connect(role);
            measure(redis, role, telemetry);
            return redis;
          },
        }
      );
    },
  };
}

/** A server that does not know a script yet says so, and gets its text. */
function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("NOSCRIPT");
}
