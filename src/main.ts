import { fstatSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import type { NewKey } from "./add-key.ts";
import { startScreen } from "./banner.ts";
import type { StartScreen } from "./banner.ts";
import { ConfigError, loadConfig, variables } from "./config.ts";
import type { Config } from "./config.ts";
import type { RedisConfig } from "./config-redis.ts";
import type { RedisAddress } from "./config-values.ts";
import { dataCommandsHelp, readDataCommand, runDataCommand } from "./data-commands.ts";
import type { DataCommand } from "./data-commands.ts";
import type { AdoptProgress, Gateway, GatewayOptions, Logger } from "./gateway.ts";
import { outlivesTerminal } from "./hangup.ts";
import { createLogger } from "./logging.ts";
import type { FullLogger } from "./logging.ts";
import { createProgress } from "./progress.ts";
import { redisSource } from "./redis-source.ts";
import { hostTraces } from "./tracing/options.ts";

/** Exit codes: 0 done, 1 failed, 2 wrong use (arguments or configuration). */
export async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const command = readDataCommand(args) ?? readCommand(args);
  switch (command.kind) {
    case "help":
      process.stdout.write(help());
      return;
    case "version":
      process.stdout.write(`${version()}\n`);
      return;
    case "misused":
      process.stderr.write(`${command.message}\nparley --help tells what there is.\n`);
      process.exitCode = 2;
      return;
    case "add-key":
      await addKey(command);
      return;
    case "export":
    case "import":
    case "give":
    case "delete-owner": {
      const config = readConfig();
      if (config !== null) await overData(config, command);
      return;
    }
    case "start":
    case "adopt": {
      const config = readConfig();
      if (config === null) return;
      await (command.kind === "adopt" ? adopt(config, command) : start(config));
    }
  }
}

interface Adopt {
  readonly kind: "adopt";
  /** null: the one owner there is without authentication. */
  readonly owner: string | null;
  /** A pattern of Redis' SCAN over history keys; null: all. */
  readonly match: string | null;
}

type Command =
  | { readonly kind: "start" }
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "misused"; readonly message: string }
  | ({ readonly kind: "add-key" } & NewKey)
  | Adopt;

function readCommand(args: readonly string[]): Command {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "v" },
        owner: { type: "string" },
        match: { type: "string" },
        subject: { type: "string" },
        scope: { type: "string", multiple: true },
        sessions: { type: "string", multiple: true },
      },
    });
  } catch (error) {
    return { kind: "misused", message: error instanceof Error ? error.message : String(error) };
  }
  const { values, positionals } = parsed;
  const [name = "start", ...rest] = positionals;
  if (values.help === true) return { kind: "help" };
  if (values.version === true) return { kind: "version" };
  const { subject, scope: scopes = [], sessions = [] } = values;
  const ofKeys = subject !== undefined || scopes.length > 0 || sessions.length > 0;
  if (ofKeys && name !== "keys") {
    return { kind: "misused", message: "--subject, --scope and --sessions belong to parley keys add." };
  }
  if ((values.owner !== undefined || values.match !== undefined) && name !== "adopt") {
    return { kind: "misused", message: "--owner and --match belong to parley adopt." };
  }
  if (name === "keys") {
    if (rest.join() !== "add")
      return { kind: "misused", message: "There is one thing to do with keys: parley keys add." };
    if (subject === undefined) return { kind: "misused", message: "--subject NAME says whose the key is." };
    return { kind: "add-key", subject, scopes, sessions };
  }
  if (rest.length > 0) return { kind: "misused", message: `One command at a time, not also ${rest.join(" ")}.` };
  if (name === "adopt") return { kind: "adopt", owner: values.owner ?? null, match: values.match ?? null };
  if (name !== "start") return { kind: "misused", message: `There is no command ${name}.` };
  return { kind: "start" };
}

function help(): string {
  const rows = variables.map((variable) => {
    const fallback = variable.default === null || variable.default === "" ? "" : ` [${variable.default}]`;
    return `  ${variable.name.padEnd(26)}${variable.description}${fallback}`;
  });
  return `Parley ${version()}: GraphQL over the conversations that LangChain keeps in Redis.

  parley [start]            start the gateway
  parley adopt              list histories that LangChain wrote before: looks through Redis for them
    --owner NAME            whose they shall be; needed with AUTH
    --match PATTERN         only keys like this, as in Redis' SCAN: "chat:*"
${dataCommandsHelp}
  parley keys add           make an API key, shown once; AUTH_KEYS_FILE gets its hash (AUTH=keys)
    --subject NAME          whose it is
    --scope SCOPE           chat:read, chat:write or admin; may be repeated [chat:read and chat:write]
    --sessions PATTERN      session ids that it may use, as "team-*"; may be repeated ["NAME:*"]
  parley --help
  parley --version

It is configured by environment variables [defaults]:

${rows.join("\n")}
`;
}

function version(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version; // our own package.json
}

async function addKey({ subject, scopes, sessions }: NewKey): Promise<void> {
  const file = process.env["AUTH_KEYS_FILE"]?.trim() ?? "";
  const { makeKey, newKeyProblem } = await import("./add-key.ts");
  const wanted = { subject, scopes, sessions };
  const problem =
    file === "" ? "AUTH_KEYS_FILE must name the file that the key's hash goes into." : newKeyProblem(wanted);
  if (problem !== null) {
    process.stderr.write(`${problem}\n`);
    process.exitCode = 2;
    return;
  }
  try {
    const key = await makeKey(file, wanted);
    // The key alone on stdout, so that a script can take it.
    process.stderr.write(
      `A key for ${subject}. It is shown this once; clients send it as "Authorization: Bearer …".\n`,
    );
    process.stdout.write(`${key}\n`);
  } catch (error) {
    process.stderr.write(`${file} cannot be written: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

function readConfig(): Config | null {
  try {
    return loadConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n\nparley --help lists all variables.\n`);
    process.exitCode = 2;
    return null;
  }
}

/** For people where there is one to read, else for machines. */
function loggerFor(config: Config): Promise<FullLogger> {
  return createLogger({ level: config.logLevel, pretty: !config.production && process.stdout.isTTY });
}

async function overData(config: Config, command: DataCommand): Promise<void> {
  const { stderr } = process;
  const logger = await createLogger({
    level: config.logLevel,
    pretty: !config.production && stderr.isTTY,
    toStderr: true,
  });
  let gateway;
  try {
    gateway = await openIdle(config, logger);
    const { stdin, stdout } = process;
    process.exitCode = await runDataCommand(command, gateway, { stdin, stdinBytes: stdinBytes(), stdout, stderr });
  } catch (error) {
    logger.fatal({ err: error }, "The command stopped on its way. It can be run again.");
    process.exitCode = 1;
  }
  await gateway?.close({ graceMs: 0 });
}

/** For a command over what is stored. A signal ends the command, and takes a redis-server of ours along. */
async function openIdle(config: Config, logger: Logger): Promise<Gateway> {
  const { createGateway } = await import("./gateway.ts");
  const opening = createGateway({ ...optionsFrom(config, logger), idle: true });
  stopOnSignals(async () => (await opening).close({ graceMs: 0 }), 1);
  return await opening;
}

/** null: it is no file. */
function stdinBytes(): number | null {
  try {
    const { size } = fstatSync(0);
    return size > 0 ? size : null;
  } catch {
    return null;
  }
}

function optionsFrom(config: Config, logger: Logger): GatewayOptions {
  const onProgress = (text: string) => logger.info({}, text);
  const { tracing, ...rest } = config;
  // With OpenTelemetry loaded ahead of Parley (`node --import`) the spans go where that sends all others.
  const own = tracing === null || hostTraces() ? {} : { tracing };
  return { ...rest, ...own, redis: redisSource(config.redis, process.env, onProgress), logger };
}

async function start(config: Config): Promise<void> {
  if (config.auth.kind === "keys") {
    const { keyFileProblem } = await import("./add-key.ts");
    const problem = await keyFileProblem(config.auth.file);
    if (problem !== null) {
      process.stderr.write(`${new ConfigError([{ variable: "AUTH_KEYS_FILE", message: problem }]).message}\n`);
      process.exitCode = 2;
      return;
    }
  }
  const logger = await loggerFor(config);
  outliveRejections(logger);
  if (config.production) keepLogPure(logger);
  for (const warning of config.tracing?.warnings ?? []) logger.warn({}, warning);
  // Loaded here: help, version and mistakes in the configuration need none of it, and it takes a second.
  const { createGateway, PersistedOperationsError } = await import("./gateway.ts");
  const starting = createGateway(optionsFrom(config, logger));
  // From here on there may be a redis-server of ours, which must not be left behind.
  const stopping = stopOnSignals(async () => {
    logger.info({ graceMs: config.shutdownGraceMs }, "Stopping: nobody new gets in, replies may end.");
    await (await starting).close({ graceMs: config.shutdownGraceMs });
    logger.info({}, "Stopped.");
  });
  let gateway;
  let url;
  try {
    gateway = await starting;
    if (stopping.aborted) return;
    ({ url } = await gateway.listen(config));
  } catch (error) {
    if (stopping.aborted) return;
    if (error instanceof PersistedOperationsError) {
      process.stderr.write(`${error.message}\n`);
      process.exit(2);
    }
    logger.fatal({ err: error }, explainStart(error, config));
    await gateway?.close({ graceMs: 0 });
    process.exit(1);
  }

  const { modelName: model } = gateway;
  if (config.production) {
    logger.info({ url, redis: config.redis.kind, model }, "Parley is ready.");
    return;
  }
  process.stdout.write(
    startScreen({
      version: version(),
      url,
      graphiql: config.graphiql,
      redis: shownRedis(config.redis, gateway.redisUrl),
      historyKeyPrefix: config.historyKeyPrefix,
      model,
      auth: config.auth.kind,
    }),
  );
}

function shownRedis(redis: RedisConfig, ownUrl: string | null): StartScreen["redis"] {
  const list = (addresses: readonly RedisAddress[]) => addresses.map(({ host, port }) => `${host}:${port}`).join(", ");
  switch (redis.kind) {
    case "embedded":
      return { url: ownUrl ?? "", directory: redis.directory };
    case "url":
      return { url: redis.url, directory: null };
    case "sentinel":
      return { described: `${redis.name}, by the Sentinels ${list(redis.sentinels)}` };
    case "cluster":
      return { described: `a cluster, by ${list(redis.nodes)}` };
  }
}

function explainStart(error: unknown, { host, port }: Config): string {
  const code = error instanceof Error && "code" in error ? error.code : null;
  if (code === "EADDRINUSE") return `Port ${port} of ${host} is taken. Set PORT to another one, or to 0 for any.`;
  if (code === "EACCES" && error instanceof Error && "path" in error)
    return `${String(error.path)} may not be written.`;
  if (code === "EACCES") return `Port ${port} of ${host} may not be used. Set PORT to one above 1023.`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return `${host} is no address of this machine. Set HOST.`;
  return "Parley could not start.";
}

/** Node ends a process for a rejection that nobody handles. Here that would end all replies and streams for one's mistake. */
function outliveRejections(logger: Logger): void {
  process.on("unhandledRejection", (err) => {
    logger.error({ err }, "Something failed that nothing waited for. This is a mistake in Parley: please report it.");
  });
}

/** Where each line is JSON, libraries print none of theirs, which hold what users wrote, too; what Node warns of becomes a line. */
function keepLogPure(logger: Logger): void {
  const drop = () => undefined;
  Object.assign(console, { log: drop, info: drop, debug: drop, warn: drop, error: drop, trace: drop, dir: drop });
  process.removeAllListeners("warning");
  process.on("warning", (err) => logger.warn({ err }, "Node warns of something."));
}

/** A Ctrl-C under npm arrives twice: from the terminal, and passed on by npm. It shall not count as impatience. */
const sameSignalMs = 500;

/** `exitCode`: of a process that was stopped. Gives back what tells that it is being stopped. */
function stopOnSignals(stop: () => Promise<void>, exitCode = 0): AbortSignal {
  const stopping = new AbortController();
  let stoppingSince: number | null = null;
  const onSignal = () => {
    const now = performance.now();
    if (stoppingSince !== null) {
      if (now - stoppingSince > sameSignalMs) process.exit(1);
      return;
    }
    stoppingSince = now;
    stopping.abort();
    stop().then(
      () => process.exit(exitCode),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  // The terminal is gone. What is still said goes nowhere, and that must not end the process before it has stopped.
  process.on("SIGHUP", outlivesTerminal(process.env, process.ppid) ? () => undefined : onSignal);
  for (const output of [process.stdout, process.stderr]) output.on("error", () => undefined);
  return stopping.signal;
}

async function adopt(config: Config, { owner, match }: Adopt): Promise<void> {
  const { stderr } = process;
  if (config.auth.kind !== "none" && owner === null) {
    stderr.write("With AUTH each history needs an owner: --owner NAME, a token's subject.\n");
    process.exitCode = 2;
    return;
  }
  const logger = await loggerFor(config);
  const progress = createProgress(stderr);
  const onProgress = ({ scanned, adopted, share }: AdoptProgress) =>
    progress.show({ text: `${scanned} lists looked at, ${adopted} adopted`, count: scanned, share });
  let gateway;
  try {
    gateway = await openIdle(config, logger);
    const { scanned, adopted, skipped } = await gateway.adopt({
      ...(owner === null ? {} : { owner }),
      ...(match === null ? {} : { match }),
      onProgress,
    });
    progress.end();
    process.stdout.write(`${adopted} adopted, ${skipped} left as they are, of ${scanned} lists.\n`);
  } catch (error) {
    logger.fatal({ err: error }, "Adopting stopped. It can be run again: what is adopted already stays so.");
    process.exitCode = 1;
  }
  await gateway?.close({ graceMs: 0 });
}
