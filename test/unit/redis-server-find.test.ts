import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runCommand } from "../../src/embedded-redis/command.ts";
import { cacheDirectory } from "../../src/embedded-redis/debian-copy.ts";
import { findRedisServer } from "../../src/embedded-redis/find.ts";

let folder: string;
let bin: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "parley-find-"));
  bin = join(folder, "bin");
  await mkdir(bin);
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function program(name: string, script: string): Promise<string> {
  const path = join(bin, name);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

/** A PATH with nothing but the test's own programs: no apt, no dnf. */
function environment(): Record<string, string> {
  return { PATH: bin, XDG_CACHE_HOME: join(folder, "cache") };
}

test("takes redis-server from PATH", async () => {
  const command = await program("redis-server", 'echo "Redis server v=7.2.4 sha=0"');
  expect(await findRedisServer({ environment: environment() })).toMatchObject({ command, version: "7.2.4" });
});

test("takes valkey-server where redis-server is too old", async () => {
  await program("redis-server", 'echo "Redis server v=6.0.16 sha=0"');
  const command = await program("valkey-server", 'echo "Valkey server v=8.0.1 sha=0"');
  expect(await findRedisServer({ environment: environment() })).toMatchObject({ command });
});

test("says why each was refused", async () => {
  const old = await program("redis-server", 'echo "Redis server v=6.0.16 sha=0"');
  const broken = await program("valkey-server", 'echo "libfoo.so.1: cannot open shared object file" >&2; exit 127');
  const failure = findRedisServer({ environment: environment() });
  await expect(failure).rejects.toThrow(`${old} is 6.0.16, and Parley needs 7.0 or later`);
  await expect(failure).rejects.toThrow(`${broken} does not run: libfoo.so.1`);
  await expect(failure).rejects.toThrow("REDIS_URL");
});

test("gives the line that installs one where a packager exists", async () => {
  await program("brew", "exit 0");
  await expect(findRedisServer({ environment: environment() })).rejects.toThrow("brew install redis");
});

test.runIf(process.platform === "linux")("says what the distribution has where that is too old", async () => {
  await program("apt-get", "exit 0");
  await program("apt-cache", 'echo "redis-tools:"; echo "  Installed: (none)"; echo "  Candidate: 5:6.0.16-1ubuntu1"');
  for (const name of ["dpkg-deb", "dpkg-query", "ldd"]) await program(name, "exit 0");
  const failure = findRedisServer({ environment: environment() });
  await expect(failure).rejects.toThrow("redis-tools 5:6.0.16-1ubuntu1");
  // Nothing is left of the attempt.
  expect(await readdir(join(folder, "cache", "parley"))).toEqual([]);
});

test.runIf(process.platform === "linux")("survives an apt that fails, with what it said", async () => {
  await program("apt-get", 'echo "E: The repository is away" >&2; exit 100');
  await program("apt-cache", "exit 0");
  for (const name of ["dpkg-deb", "dpkg-query", "ldd"]) await program(name, "exit 0");
  const failure = findRedisServer({ environment: environment() });
  await expect(failure).rejects.toThrow("E: The repository is away");
  await expect(failure).rejects.toThrow("apt-get install -y redis-server");
});

test("the cache folder is the user's", () => {
  expect(cacheDirectory({ XDG_CACHE_HOME: "/c", HOME: "/h" })).toBe("/c/parley");
  expect(cacheDirectory({ XDG_CACHE_HOME: "relative", HOME: "/h" })).toBe("/h/.cache/parley");
  expect(cacheDirectory({ HOME: "/h" })).toBe("/h/.cache/parley");
  expect(cacheDirectory({})).toBeNull();
});

test("a command that hangs is killed with its children", async () => {
  const pidFile = join(folder, "pid");
  // /bin first: the test's PATH has no sleep.
  const started = Date.now();
  const running = runCommand("/bin/sh", ["-c", `/bin/sleep 60 & echo $! > ${pidFile}; wait`], {
    environment: { PATH: "/usr/bin:/bin" },
    timeoutMs: 300,
  });
  await expect(running).rejects.toThrow("took longer than 0.3 s");
  expect(Date.now() - started).toBeLessThan(20_000);
});

test("a command's end does not wait for a grandchild that keeps its output open", async () => {
  const started = Date.now();
  const result = await runCommand("/bin/sh", ["-c", "echo said; /bin/sleep 30 &"], {
    environment: {},
    timeoutMs: 29_000,
  });
  expect(result).toMatchObject({ code: 0, stdout: "said\n" });
  expect(Date.now() - started).toBeLessThan(20_000);
});
