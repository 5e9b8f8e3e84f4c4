import { access, constants } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import type { Environment } from "./command.ts";
import { runCommand } from "./command.ts";
import { findDebianCopy, unpackDebianCopy } from "./debian-copy.ts";
import type { ServerVersion } from "./version.ts";
import { isRecentEnough, oldestVersion, parseServerVersion } from "./version.ts";

/** A program that runs as redis-server. It runs as a Sentinel, too, with `--sentinel` behind the file of its configuration. */
export interface RedisBinary {
  /** Absolute path. */
  readonly command: string;
  /** To be set over the environment it is started with. */
  readonly env: Readonly<Record<string, string>>;
  readonly version: ServerVersion;
}

export interface FindOptions {
  /** PATH, HOME, XDG_CACHE_HOME and proxies are read from it, and child processes get it. */
  readonly environment: Environment;
  /** A line of what is being done, where that takes longer than a moment. */
  readonly onProgress?: ((text: string) => void) | undefined;
}

/**
 * A redis-server or valkey-server, 7.0 or later: from PATH, else a private copy from an earlier call, else one that is
 * unpacked from the distribution's own packages into the user's cache folder, without root and without an
 * installation. Rejects, in bounded time, with the reason for each that was refused and the line that installs one here.
 */
export async function findRedisServer(options: FindOptions): Promise<RedisBinary> {
  const reasons: string[] = [];
  const note = (reason: string): void => {
    reasons.push(reason);
  };
  const found =
    (await findOnPath(options.environment, note)) ??
    (await findDebianCopy(options, note)) ??
    (await unpackDebianCopy(options, note));
  if (found !== null) return found;
  throw new Error(
    [
      `There is no redis-server or valkey-server ${oldestVersion} or later to be found here:`,
      ...reasons.map((reason) => `  - ${reason}`),
      await installAdvice(options.environment),
    ].join("\n"),
  );
}

async function findOnPath(environment: Environment, note: (reason: string) => void): Promise<RedisBinary | null> {
  let seen = false;
  for (const name of ["redis-server", "valkey-server"]) {
    const command = await onPath(environment, name);
    if (command === null) continue;
    seen = true;
    const tried = await tryBinary(command, {}, environment);
    if (typeof tried !== "string") return tried;
    note(tried);
  }
  if (!seen) note("neither redis-server nor valkey-server is on PATH");
  return null;
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
    if (!isRecentEnough(version)) return `${command} is ${version.text}, and Parley needs ${oldestVersion} or later`;
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

const installers = [
  ["apt-get", "apt-get install -y redis-server", true],
  ["dnf", "dnf install -y redis || dnf install -y valkey", true],
  ["apk", "apk add redis", true],
  ["pacman", "pacman -S valkey", true],
  ["zypper", "zypper install redis", true],
  ["brew", "brew install redis", false],
] as const;

async function installAdvice(environment: Environment): Promise<string> {
  for (const [program, line, asRoot] of installers) {
    if ((await onPath(environment, program)) === null) continue;
    const sudo = asRoot && process.getuid?.() !== 0;
    return `Install one with: ${sudo ? line.replaceAll(program, `sudo ${program}`) : line}\nor set REDIS_URL to a server that runs elsewhere.`;
  }
  return "Install redis-server, or set REDIS_URL to a server that runs elsewhere.";
}
