import { spawn } from "node:child_process";

/** Environment variables; `undefined` values count as not set. Handed in, because only main.ts reads process.env. */
export type Environment = Readonly<Record<string, string | undefined>>;

interface CommandOptions {
  readonly environment: Environment;
  readonly timeoutMs: number;
  readonly cwd?: string;
}

export interface CommandResult {
  /** null: ended by a signal. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Nothing that is run here says more than an apt index listing; more than this is cut off. */
const maxOutputChars = 4_000_000;

/**
 * Runs a program to its end, whatever its exit code. Rejects if it cannot be started, and after `timeoutMs`: then its
 * whole process group is killed. The promise settles at the program's exit and does not wait for its output to
 * close, which a grandchild may hold open for as long as it likes.
 */
export function runCommand(command: string, args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.environment,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      if (stdout.length < maxOutputChars) stdout += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      if (stderr.length < maxOutputChars) stderr += chunk;
    });
    const timer = setTimeout(() => {
      try {
        // Negative: the group. apt-get's download methods are children of their own.
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It ended in this very moment.
      }
      settle(() => reject(new Error(`${command} ${args[0] ?? ""} took longer than ${options.timeoutMs / 1000} s`)));
    }, options.timeoutMs);
    const settle = (how: () => void): void => {
      clearTimeout(timer);
      child.stdout.removeAllListeners("close");
      how();
    };
    child.once("error", (error) => settle(() => reject(error)));
    child.once("exit", (code) => {
      const done = (): void => settle(() => resolve({ code, stdout, stderr }));
      // What is in the pipes already is read before "close"; 200 ms bound the wait for a grandchild that keeps them.
      const late = setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
        done();
      }, 200);
      child.once("close", () => {
        clearTimeout(late);
        done();
      });
    });
  });
}

/** The last lines of a program's output that say something, for an error message. */
export function lastLines(text: string, count: number): string {
  return text
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
    .slice(-count)
    .join("\n");
}
