import { Cluster, type Redis } from "ioredis";
import { silentTelemetry, type Telemetry } from "../../conversation/ports/telemetry.ts";
import { isUnknownScript, scriptNameOf } from "../scripts/scripts.ts";

type Client = Redis | Cluster;
type Command = Parameters<Redis["sendCommand"]>[0];

export interface SendingSettings {
  /** Milliseconds after which a command that got no answer is given up. */
  readonly commandTimeoutMs: number;
  /** Left out: nobody follows what is sent. */
  readonly telemetry?: Telemetry;
}

/**
 * The one place where something is done to each command before ioredis sends it, in this order:
 *
 * 1. In a cluster it gets its time-out: the cluster's own retries (failover, cluster down, offline queue) know none, and
 *    that of its nodes begins only when a node is found.
 * 2. Telemetry measures it, a script under its own name; once, however often the command is sent.
 * 3. It is gathered with others in one write to the socket, of each node in a cluster.
 */
export function prepareSending(redis: Client, role: string, settings: SendingSettings): void {
  const { commandTimeoutMs, telemetry = silentTelemetry } = settings;
  // Without a telemetry measuring would be the most expensive part of sending a command.
  const measured = telemetry.redisCommand === silentTelemetry.redisCommand ? [] : [measuring(telemetry)];
  if (redis instanceof Cluster) {
    const gather = (node: Redis) => beforeSending(node, [gathering(node)]);
    redis.on("+node", gather);
    for (const node of redis.nodes("all")) gather(node);
    beforeSending(redis, [(command) => command.setTimeout(commandTimeoutMs), ...measured]);
  } else beforeSending(redis, [...measured, gathering(redis)]);
  let lost = false;
  redis.on("close", () => (lost = true));
  redis.on("ready", () => {
    if (lost) telemetry.redisReconnected(role);
    lost = false;
  });
}

function beforeSending(redis: Client, steps: readonly ((command: Command) => void)[]): void {
  const send = redis.sendCommand.bind(redis);
  redis.sendCommand = (...[command, ...rest]: Parameters<typeof send>) => {
    for (const step of steps) step(command);
    return send(command, ...rest);
  };
}

/** What a connection begins with; some servers know not all of it, and that is no failure. */
const handshake = new Set(["hello", "auth", "client", "select"]);

/**
 * ioredis sends a command anew through the same door when a connection is back: one command, one time. On the command
 * itself, since a set of them, weak or not, would keep each alive until the next full collection.
 */
const told = Symbol("told");
interface Told {
  [told]?: true;
}

function measuring(telemetry: Telemetry): (command: Command) => void {
  return (command: Command & Told) => {
    if (command[told] === true || handshake.has(command.name)) return;
    command[told] = true;
    const [which] = command.args;
    const isEval = command.name === "evalsha" || command.name === "eval";
    const script = isEval && typeof which === "string" ? scriptNameOf(which) : undefined;
    const answered = telemetry.redisCommand(script ?? command.name.toLowerCase(), script !== undefined);
    command.promise.then(
      () => answered(null),
      (error: unknown) => answered(isUnknownScript(error) ? null : codeOf(error)),
    );
  };
}

/**
 * What is asked for within one turn of the event loop leaves in one write: a turn of a conversation asks for its script and
 * its places in the index together, and each write costs more than the commands in it.
 */
function gathering(redis: Redis): () => void {
  return () => {
    const { stream } = redis as { readonly stream?: Redis["stream"] }; // there is none before the first connection
    if (stream === undefined || stream.writableCorked > 0) return;
    stream.cork();
    // Behind the promises that are settled now, whose callbacks may have something to ask for too.
    process.nextTick(() => stream.uncork());
  };
}

/** The first word of what Redis answered ("OOM"), or the class of what came instead of an answer. Never more of its text. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "Error";
  return (error.name === "ReplyError" ? /^[A-Z]{2,30}(?= )/.exec(error.message)?.[0] : undefined) ?? error.name;
}
