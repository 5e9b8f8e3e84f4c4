import { execFile } from "node:child_process";
import { startProgram } from "./start-command.ts";

export interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that ends by itself; `env` is its whole environment besides PATH, HOME and PORT. */
export function runParley(
  directory: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const { PATH = "", HOME = "" } = process.env;
  return new Promise((resolve) => {
    const options = { cwd: directory, env: { PATH, HOME, PORT: "0", ...env }, timeout: 60_000 };
    execFile(process.execPath, [startProgram, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, stdout, stderr });
    });
  });
}
