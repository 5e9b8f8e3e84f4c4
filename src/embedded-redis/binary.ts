import { access, constants } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import type { Environment } from "./command.ts";
import { runCommand } from "./command.ts";
import { isRecentEnough, oldestVersion, parseServerVersion } from "./version.ts";

/** A program that runs as redis-server. It runs as a Sentinel, too, with `--sentinel` behind the file of its configuration. */
export interface RedisBinary {
  /** Absolute path. */
  readonly command: string;
  /** To be set over the environment it is started with. */
  readonly env: Readonly<Record<string, string>>;
  /** E.g. "7.0.15". */
  readonly version: string;
}

export interface FindOptions {
  /** PATH, HOME, XDG_CACHE_HOME and proxies are read from it, and child processes get it. */
  readonly environment: Environment;
  /** A line of what is being done, where that takes longer than a moment. */
  readonly onProgress?: ((text: string) => void) | undefined;
}

/** The binary if it runs and is recent enough, else why not. */
export async function tryBinary(
  command: string,
  env: Readonly<Record<string, string>>,
  environment: Environment,
): Promise<RedisBinary | string> {
  try {
    const result = await runCommand(command, ["--version"], {
      environment: { ...environment, ...env },
      timeoutMs: 10_000,
    });
    const version = parseServerVersion(result.stdout);
    if (version === null) return `${command} does not run: ${(result.stderr || result.stdout).trim()}`;
    if (!isRecentEnough(version)) return `${command} is ${version}, and Parley needs ${oldestVersion} or later`;
    return { command, env, version };
  } catch (error) {
    return `${command} does not run: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Where a shell would find the program, or null. */
export async function onPath(environment: Environment, name: string): Promise<string | null> {
  for (const directory of (environment["PATH"] ?? "").split(delimiter)) {
    // A relative entry means another program in each working directory.
    if (!isAbsolute(directory)) continue;
    const candidate = join(directory, name);
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this one.
    }
  }
  return null;
}
