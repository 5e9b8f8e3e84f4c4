import { findDebianCopy, unpackDebianCopy } from "./debian-copy.ts";
import type { Environment } from "./command.ts";
import type { FindOptions, RedisBinary } from "./binary.ts";
import { onPath, tryBinary } from "./binary.ts";
import { oldestVersion } from "./version.ts";

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
