import cluster, { type Worker } from "node:cluster";
import { fstatSync, readFileSync } from "node:fs";

import type { NewKey } from "./cli/api-keys.ts";
import { startScreen } from "./cli/start-screen.ts";
import type { StartScreen } from "./cli/start-screen.ts";
import { readCommand } from "./cli/command-line.ts";
import type { Misused } from "./cli/command-line.ts";
import { ConfigError, loadConfig } from "./config/load.ts";
import type { Config, ConfigProblem } from "./config/load.ts";
import type { RedisConfig } from "./config/redis.ts";
import type { RedisAddress } from "./config/forms.ts";
import { newOwnerOf, readDataCommand, runDataCommand } from "./cli/data-commands.ts";
import type { DataCommand } from "./cli/data-commands.ts";
import type { Gateway, GatewayOptions, Logger } from "./gateway.ts";
import { outlivesTerminal } from "./cli/hangup.ts";
import { help } from "./cli/help.ts";
import { createLogger, errorOf } from "./telemetry/logging.ts";
import { signedInProblem, subjectProblem } from "./conversation/conversations/access.ts";
import type { FullLogger } from "./telemetry/logging.ts";
import { redisProblems, redisSource } from "./cli/redis-source.ts";
import { mistakesText, runningGateway, startFailure, type Running } from "./cli/running.ts";
import { PrimaryLink } from "./cli/workers/link.ts";
import { assignmentVariable, type Assignment } from "./cli/workers/messages.ts";
import { WorkerFailed } from "./cli/workers/workers.ts";
import { shareOf } from "./config/limits.ts";
import { hostTraces } from "./telemetry/tracing/host.ts";

/** Exit codes: 0 done, 1 failed, 2 wrong use (arguments or configuration). */
export async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const command = readDataCommand(args) ?? readCommand(args);
  switch (command.kind) {
    case "help":
      process.stdout.write(help(version()));
      return;
    case "version":
      process.stdout.write(`${version()}\n`);
      return;
    case "misused":
      misuse(command);
      return;
    case "add-key":
      await addKey(command);
      return;
    case "pin-agents": {
      const config = await readConfig(true);
      if (config !== null) await pinAgents(config);
      return;
    }
    case "adopt":
    case "export":
    case "import":
    case "give":
    case "delete-owner": {
      const config = await readConfig(false);
      if (config !== null) await overData(config, command);
      return;
    }
    case "start": {
      const assignment = takeAssignment();
      if (assignment !== null && cluster.worker !== undefined) {
        await work(assignment, cluster.worker);
        return;
      }
      const config = await readConfig(true);
      if (config !== null) await start(config);
    }
  }
}

function version(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version; // our own package.json
}

async function addKey({ subject, scopes, sessions, models }: NewKey): Promise<void> {
  const file = process.env["AUTH_KEYS_FILE"]?.trim() ?? "";
  const { makeKey, newKeyProblem } = await import("./cli/api-keys.ts");
  const wanted = { subject, scopes, sessions, models };
  const problem =
    file === "" ? "AUTH_KEYS_FILE must name the file that the key's hash goes into." : newKeyProblem(wanted);
  if (problem !== null) {
    misuse({ message: problem });
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

async function pinAgents({ agentsFile, mcpConnectTimeoutMs }: Config): Promise<void> {
  if (agentsFile === null) {
    misuse({ message: "AGENTS_FILE must name the file of the agents whose tools are pinned." });
    return;
  }
  const { pinsOf, readAgentsFile } = await import("./cli/agents-file.ts");
  const { agents } = await readAgentsFile(agentsFile, process.env);
  const tell = (agent: string, message: string) => process.stderr.write(`${agent}: ${message}\n`);
  try {
    const pins = await pinsOf(agents, mcpConnectTimeoutMs, tell);
    process.stdout.write(`${JSON.stringify(pins, null, 2)}\n`);
  } catch {
    // Which server it was has been told.
    process.exitCode = 1;
  }
}

function misuse({ message }: Pick<Misused, "message">): void {
  process.stderr.write(`${message} parley --help tells what there is.\n`);
  process.exitCode = 2;
}

/** `serves`: for a gateway that answers clients. null: it has mistakes, which are told. */
async function readConfig(serves: boolean): Promise<Config | null> {
  const { fileProblems } = await import("./cli/config-files.ts");
  const problems = [...(await fileProblems(process.env, serves))];
  try {
    const config = loadConfig(process.env);
    if (serves && config.workers > 1 && cluster.isWorker) {
      problems.push({ variable: "WORKERS", message: "must be 1 in a worker of node:cluster (pm2's cluster mode)" });
    }
    problems.push(...(problems.length > 0 ? [] : await redisProblems(config.redis)));
    if (problems.length === 0) return config;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.unshift(...error.problems);
  }
  tellMistakes(problems);
  return null;
}

function tellMistakes(problems: readonly ConfigProblem[]): void {
  process.stderr.write(`${mistakesText(new ConfigError(problems))}\n`);
  process.exitCode = 2;
}

/** For people where there is one to read, else for machines. */
function loggerFor(config: Config, output: "stdout" | "stderr", worker: number | null = null): Promise<FullLogger> {
  const pretty = !config.production && process[output].isTTY;
  return createLogger({ level: config.logLevel, pretty, toStderr: output === "stderr", worker });
}

/** What keeps somebody from being called so, where there is authentication and where not. */
function ownerProblem({ auth }: Config, owner: string | null): string | null {
  const problem = owner === null ? null : auth.kind === "none" ? subjectProblem(owner) : signedInProblem(owner);
  return problem === null ? null : `The new owner ${problem}.`;
}

async function overData(config: Config, command: DataCommand): Promise<void> {
  const { stderr } = process;
  const problem = ownerProblem(config, newOwnerOf(command));
  if (problem !== null) {
    misuse({ message: problem });
    return;
  }
  if (command.kind === "import" && process.stdin.isTTY) {
    misuse({ message: "parley import reads an archive: parley import < FILE." });
    return;
  }
  if (command.kind === "adopt" && command.owner === null && config.auth.kind !== "none") {
    misuse({ message: "With AUTH each history needs an owner: --owner NAME, a token's subject." });
    return;
  }
  const logger = await loggerFor(config, command.kind === "adopt" ? "stdout" : "stderr");
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
  const opening = optionsFrom(config, logger).then((options) => createGateway({ ...options, idle: true }));
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

async function optionsFrom(config: Config, logger: Logger): Promise<GatewayOptions> {
  const onProgress = (text: string) => logger.info({}, text);
  const { tracing, ...rest } = config;
  const { readAgentsFile } = await import("./cli/agents-file.ts");
  const agents =
    config.agentsFile === null ? {} : { agents: (await readAgentsFile(config.agentsFile, process.env)).agents };
  // These are not the gateway's: where it listens is listen()'s affair.
  const given: Partial<typeof rest> = { ...rest };
  for (const name of ["host", "port", "workers", "shutdownGraceMs", "logLevel", "agentsFile"] as const) {
    Reflect.deleteProperty(given, name);
  }
  // With OpenTelemetry loaded ahead of Parley (`node --import`) the spans go where that sends all others.
  const own = tracing === null || hostTraces() ? {} : { tracing };
  return { ...given, ...own, ...agents, redis: redisSource(config.redis, process.env, onProgress), logger };
}

async function start(config: Config): Promise<void> {
  const logger = await loggerFor(config, "stdout");
  prepare(config, logger);
  for (const warning of config.tracing?.warnings ?? []) logger.warn({}, warning);
  const opening = config.workers === 1 ? openGateway(config, logger) : openWorkers(config, logger);
  // From here on there may be a redis-server of ours, which must not be left behind.
  const stopping = stopOnSignals(async () => {
    logger.info({ graceMs: config.shutdownGraceMs }, "Stopping: nobody new gets in, replies may end.");
    await (await opening).close(config.shutdownGraceMs);
    logger.info({}, "Stopped.");
  });
  let running;
  let ready;
  try {
    running = await opening;
    if (stopping.aborted) return;
    ready = await running.listen();
  } catch (error) {
    if (stopping.aborted) return;
    const { exitCode, message, error: err } = startFailure(error, config);
    const worker = error instanceof WorkerFailed ? { worker: error.worker } : {};
    if (exitCode === 2) process.stderr.write(`${message}\n`);
    else logger.fatal({ ...worker, ...(err === null ? {} : { err: errorOf(err) }) }, message);
    await running?.close(0);
    process.exit(exitCode);
  }

  const { url, model, redisAnswers } = ready;
  const { workers } = config;
  if (config.production) {
    const several = workers === 1 ? {} : { workers };
    logger.info({ url, redis: config.redis.kind, model, ...several }, "Parley is ready.");
    return;
  }
  process.stdout.write(
    startScreen({
      version: version(),
      ...{ url, redisAnswers, model, workers },
      console: config.console,
      graphiql: config.graphiql,
      redis: shownRedis(config.redis, running.redisUrl),
      historyKeyPrefix: config.historyKeyPrefix,
      auth: config.auth.kind,
      listedOnly: config.persistedOperations.mode === "only",
    }),
  );
}

/** Loaded here: help, version and mistakes in the configuration need none of it, and it takes a second. */
async function openGateway(config: Config, logger: Logger): Promise<Running> {
  const { createGateway } = await import("./gateway.ts");
  return runningGateway(await createGateway(await optionsFrom(config, logger)), config);
}

async function openWorkers(config: Config, logger: Logger): Promise<Running> {
  const primary = await import("./cli/workers/primary.ts");
  return await primary.openWorkers(config, process.env, logger);
}

/** What the primary started this process for; null: it was started by somebody else. */
function takeAssignment(): Assignment | null {
  const given = process.env[assignmentVariable];
  if (!cluster.isWorker || given === undefined) return null;
  // A parley that this process starts, as a tool of an agent might, is no worker.
  Reflect.deleteProperty(process.env, assignmentVariable);
  return JSON.parse(given) as Assignment; // Safe: the primary wrote it.
}

/** One of WORKERS processes. The primary has checked the configuration, tells what is told once, and hears the signals. */
async function work({ worker, port, redisUrl }: Assignment, primary: Worker): Promise<void> {
  const given = loadConfig(process.env);
  const config = { ...given, ...shareOf(given, given.workers), port };
  const logger = await loggerFor(config, "stdout", worker);
  prepare(config, logger);
  // A terminal's Ctrl-C, and a service manager, mean all processes: this one waits for the primary's word.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => undefined);
  outliveReaders();
  const stopping = new AbortController();
  const link = new PrimaryLink(primary, (graceMs) => {
    stopping.abort();
    // Of a start that fails meanwhile the primary has heard already, or does not wait for it.
    const closing = opening.then(
      (opened) => opened.close(graceMs),
      () => undefined,
    );
    endAfter(closing);
  });
  const open = async (): Promise<Running> => {
    const { createWorker } = await import("./gateway.ts");
    const options = await optionsFrom(config, logger);
    return runningGateway(await createWorker({ ...options, ...(redisUrl ? { redis: redisUrl } : {}) }, link), config);
  };
  const opening = open();
  let running;
  try {
    running = await opening;
    if (stopping.signal.aborted) return;
    link.ready(await running.listen());
  } catch (error) {
    if (stopping.signal.aborted) return;
    const failure = startFailure(error, config);
    await link.failed(failure);
    await running?.close(0);
    process.exit(failure.exitCode);
  }
}

function prepare({ production }: Config, logger: Logger): void {
  outliveRejections(logger);
  if (production) keepLogPure(logger);
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
    endAfter(stop(), exitCode);
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  process.on("SIGHUP", outlivesTerminal(process.env, process.ppid) ? () => undefined : onSignal);
  outliveReaders();
  return stopping.signal;
}

/** The terminal may be gone. What is still said goes nowhere then, and that must not end the process before it has stopped. */
function outliveReaders(): void {
  for (const output of [process.stdout, process.stderr]) output.on("error", () => undefined);
}

function endAfter(stopped: Promise<void>, exitCode = 0): void {
  stopped.then(
    () => process.exit(exitCode),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(1);
    },
  );
}
