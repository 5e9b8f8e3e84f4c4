import { createHash } from "node:crypto";
import { silentTelemetry, type Telemetry } from "../../conversation/ports/telemetry.ts";
import type { Client } from "./connection.ts";
import type { Topology } from "./topology.ts";
import { plainScripts, scriptText, sessionScripts, type ScriptName } from "../scripts/scripts.ts";

/** What a connection begins with; some servers know not all of it, and that is no failure. */
const handshake = new Set(["hello", "auth", "client", "select"]);

/** Script by the hash that EVALSHA names it with, and by the text that EVAL brings where a server does not know it yet. */
let scripts: ReadonlyMap<string, string> | null = null;

function scriptNames(): ReadonlyMap<string, string> {
  scripts ??= new Map(
    (Object.keys({ ...sessionScripts, ...plainScripts }) as ScriptName[]) // the keys of both records
      .flatMap((name) => {
        const text = scriptText(name);
        return [[createHash("sha1").update(text).digest("hex"), name] as const, [text, name] as const];
      }),
  );
  return scripts;
}

/** Tells how long each command of this connection takes, a script under its own name, and that a lost connection is back. */
export function measure(redis: Client, role: string, telemetry: Telemetry): void {
  // Where nobody hears of it, it would be the dearest part of sending a command.
  if (telemetry.redisCommand !== silentTelemetry.redisCommand) measureCommands(redis, telemetry);
  let lost = false;
  redis.on("close", () => {
    lost = true;
  });
  redis.on("ready", () => {
    if (lost) telemetry.redisReconnected(role);
    lost = false;
  });
}

/**
 * ioredis sends a command anew through the same door when a connection is back: one command, one time. On the command
 * itself, since a set of them, weak or not, would keep each alive until the next full collection.
 */
const told = Symbol("told");
interface Told {
  [told]?: true;
}

function measureCommands(redis: Client, telemetry: Telemetry): void {
  const names = scriptNames();
  const send = redis.sendCommand.bind(redis);
  redis.sendCommand = (...[command, ...rest]: Parameters<typeof send>) => {
    const marked: typeof command & Told = command;
    if (marked[told] === true || handshake.has(command.name)) return send(command, ...rest);
    marked[told] = true;
    const [which] = command.args;
    const isEval = command.name === "evalsha" || command.name === "eval";
    const script = isEval && typeof which === "string" ? names.get(which) : undefined;
    const answered = telemetry.redisCommand(script ?? command.name.toLowerCase(), script !== undefined);
    command.promise.then(
      () => answered(null),
      (error: unknown) => answered(isUnknownScript(error) ? null : codeOf(error)),
    );
    return send(command, ...rest);
  };
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

/** The first word of what Redis answered ("OOM"), or the class of what came instead of an answer. Never more of its text. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "Error";
  return (error.name === "ReplyError" ? /^[A-Z]{2,30}(?= )/.exec(error.message)?.[0] : undefined) ?? error.name;
}
