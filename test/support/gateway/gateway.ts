import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { compose, type Gateway, type GatewayOptions, type Logger } from "../../../src/gateway.ts";
import { settle } from "../../../src/options.ts";
import { tellReaper } from "../redis/process-reaper.ts";
import { temporaryDirectory } from "../redis/server-process.ts";
import { startFlags, startProgram } from "./start-command.ts";

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: object;
  readonly message: string;
}

/** A gateway inside the test's own process. */
export interface TestGateway {
  /** Of /graphql, for HTTP, SSE and (as ws:) WebSocket. */
  readonly url: string;
  readonly gateway: Gateway;
  readonly logged: readonly LogLine[];
  /** With no grace unless one is given: replies that are going are closed as RUN_LOST. May be called twice. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Titles that come by themselves would be among the requests of a model that a test counts and scripts: who tests them
 * switches them on.
 */
const withoutTitles = { option: { autoTitle: false }, variable: { AUTO_TITLE: "0" } } as const;

/**
 * Resolves when it listens on a free port. Logs into `logged` unless it is given a logger. `titleDelayMs`: how long after a first
 * reply a title is made; left out, as long as a user's gateway waits.
 */
export async function startGateway(options: GatewayOptions, titleDelayMs?: number): Promise<TestGateway> {
  const logged: LogLine[] = [];
  const log = (level: LogLine["level"]) => (fields: object, message: string) =>
    void logged.push({ level, fields, message });
  const logger: Logger = { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
  const gateway = await compose(settle({ logger, ...withoutTitles.option, ...options }), titleDelayMs);
  const { url } = await gateway.listen({ port: 0 });
  return { url: `${url}/graphql`, gateway, logged, close: (graceMs = 0) => gateway.close({ graceMs }) };
}

/** A gateway as a user runs it: `parley` as a process of its own. */
export interface GatewayProcess {
  /** Of /graphql. */
  readonly url: string;
  readonly pid: number;
  /** All that it has printed so far. */
  readonly output: string;
  /** SIGKILL; resolves when the process is gone. May be called twice. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code, null where a signal ended it. */
  stop(): Promise<number | null>;
}

/** The processes that a gateway with WORKERS has started, without its redis-server. */
export function workersOf(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  return children.filter((child) => {
    try {
      return readFileSync(`/proc/${child}/cmdline`, "utf8").includes(startProgram);
    } catch {
      // It has just ended.
      return false;
    }
  });
}

const startLimitMs = 60_000;

/**
 * Resolves when it listens, on a free port; `env` is its whole environment besides PATH, HOME and PORT. Ends with this
 * process. Rejects with its output where it does not start. An empty folder is its working directory. `program`: one that
 * prints the address of its gateway, in place of `parley`.
 */
export async function spawnGateway(
  env: Readonly<Record<string, string>>,
  program = startProgram,
): Promise<GatewayProcess> {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [...startFlags, program], {
    cwd: await temporaryDirectory(),
    env: { PATH, HOME, PORT: "0", ...withoutTitles.variable, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error("The gateway's process could not be started");
  tellReaper("started", pid);
  const exited = once(child, "exit").then(() => tellReaper("ended", pid));
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`${why}:\n${output}`));
    const limit = setTimeout(() => {
      child.kill("SIGKILL");
      fail(`No address of the gateway within ${startLimitMs / 1000} s`);
    }, startLimitMs);
    const take = (chunk: Buffer) => {
      output += chunk.toString();
      const address = /http:\/\/[^\s"]+:\d+(?=[/"\s])/.exec(output)?.[0];
      if (address === undefined) return;
      clearTimeout(limit);
      resolve(`${address}/graphql`);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.once("exit", (code) => {
      clearTimeout(limit);
      fail(`The gateway ended with exit code ${code ?? "null"} before it listened`);
    });
  });
  return {
    url,
    pid,
    get output() {
      return output;
    },
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
    async stop() {
      child.kill("SIGTERM");
      await exited;
      return child.exitCode;
    },
  };
}
