import { spawn } from "node:child_process";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { dirname } from "node:path";

/** A program that was started, with all that it starts. */
export interface Started {
  /** What it has said so far. */
  output(): string;
  /** Its exit code, once it has ended; null where a signal ended it. */
  readonly ended: Promise<number | null>;
  stop(): Promise<void>;
}

type Variables = Readonly<Record<string, string>>;

// Without the commands of the checkout's own packages, which npm's scripts have ahead of all others: an example has its own.
const { PATH = "", ...inherited } = process.env;
const path = [dirname(process.execPath), ...PATH.split(":").filter((folder) => !folder.endsWith("node_modules/.bin"))];
const environment = {
  ...Object.fromEntries(Object.entries(inherited).filter(([name]) => !name.startsWith("npm_"))),
  PATH: path.join(":"),
  NEXT_TELEMETRY_DISABLED: "1",
  COPILOTKIT_TELEMETRY_DISABLED: "true",
};

export function start(command: string, args: readonly string[], cwd: string, variables: Variables = {}): Started {
  // A group of its own: npm's scripts leave children behind when npm alone is ended.
  const child = spawn(command, args, { cwd, env: { ...environment, ...variables }, detached: true });
  const { pid } = child;
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (said += String(part)));
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return {
    output: () => said,
    ended,
    async stop() {
      if (pid === undefined) return;
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        try {
          process.kill(-pid, signal);
        } catch {
          return; // it is gone
        }
        const late = new Promise((resolve) => setTimeout(resolve, 10_000).unref());
        await Promise.race([ended, late]);
      }
    },
  };
}

/** Runs a command to its end. */
export async function run(
  command: string,
  args: readonly string[],
  cwd: string,
  variables?: Variables,
): Promise<string> {
  const started = start(command, args, cwd, variables);
  const code = await started.ended;
  if (code !== 0)
    throw new Error(`"${[command, ...args].join(" ")}" ended with ${String(code)}:\n${lastLines(started)}`);
  return started.output();
}

/** Waits until `found` gives something else than null; a program that has ended meanwhile never will. */
export async function whenReady<Found>(
  started: Started,
  what: string,
  found: () => Promise<Found | null>,
): Promise<Found> {
  const never = started.ended.then((code) => {
    throw new Error(`${what} has ended with ${String(code)}:\n${lastLines(started)}`);
  });
  never.catch(() => undefined);
  for (const until = Date.now() + 180_000; Date.now() < until;) {
    const result = await Promise.race([found(), never]);
    if (result !== null) return result;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${what} is not there:\n${lastLines(started)}`);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, resolve));
  const { port } = server.address() as AddressInfo; // it listens on TCP
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const lastLines = (started: Started) => started.output().trimEnd().split("\n").slice(-25).join("\n");
