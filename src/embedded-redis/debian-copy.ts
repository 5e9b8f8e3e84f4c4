import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { isAbsolute, join, relative } from "node:path";
import { lastLines, runCommand } from "./command.ts";
import type { CommandResult } from "./command.ts";
import type { FindOptions, RedisBinary } from "./binary.ts";
import { onPath, tryBinary } from "./binary.ts";
import { isRecentEnough, oldestVersion, parsePackageVersion } from "./version.ts";

/**
 * A private copy of the distribution's own redis-server: `apt-get download` with lists and caches of its own, and
 * `dpkg-deb -x`. Nothing of the system is changed and no root is needed. A copy lives in
 * <cache>/parley/<distribution>-<architecture>-<package version>/ and appears there whole, by a rename.
 */

/** The server's program is in the -tools package (a link of another name in the other one), so both are unpacked. */
const packagePairs = [
  ["redis-tools", "redis-server"],
  ["valkey-tools", "valkey-server"],
] as const;

/** Of a package that isn't installed we take the files; of these never: two C libraries in one process don't get along. */
const neverUnpacked = /^(libc6|libc-bin|libgcc-s1|gcc-.*-base|multiarch-support)$/;

const updateTimeoutMs = 120_000;
const downloadTimeoutMs = 120_000;
const localTimeoutMs = 20_000;
const maxDependencyDepth = 4;
const workPrefix = "unpacking-";
const abandonedMs = 3_600_000;

/** What a copy says of itself; paths are relative to it. */
interface Manifest {
  readonly command: string;
  readonly libraries: readonly string[];
}

type Note = (reason: string) => void;

/** An unpacked copy of an earlier call that still runs, or null. */
export async function findDebianCopy(options: FindOptions, note: Note): Promise<RedisBinary | null> {
  const cache = cacheDirectory(options.environment);
  const prefix = await copyPrefix();
  if (cache === null || prefix === null) return null;
  const names = await readdir(cache).catch(() => []);
  for (const name of names
    .filter((each) => each.startsWith(prefix))
    .toSorted()
    .reverse()) {
    const tried = await tryCopy(join(cache, name), options);
    if (typeof tried !== "string") return tried;
    note(tried);
  }
  return null;
}

/** Unpacks a copy; null (after `note`) where the distribution has no apt, no recent server, or cannot be reached. */
export async function unpackDebianCopy(options: FindOptions, note: Note): Promise<RedisBinary | null> {
  const { environment } = options;
  const prefix = await copyPrefix();
  for (const program of ["apt-get", "apt-cache", "dpkg-deb", "dpkg-query", "ldd"]) {
    if (prefix !== null && (await onPath(environment, program)) !== null) continue;
    note(`no private copy can be unpacked: this system has no ${prefix === null ? "/etc/os-release" : program}`);
    return null;
  }
  const cache = cacheDirectory(environment);
  if (cache === null) {
    note("no private copy can be unpacked: neither XDG_CACHE_HOME nor HOME is set");
    return null;
  }
  try {
    await mkdir(cache, { recursive: true, mode: 0o700 });
    await removeAbandoned(cache);
    // Inside the cache folder, because a rename doesn't cross file systems.
    const work = await mkdtemp(join(cache, workPrefix));
    try {
      return await new Unpacking(work, options).run(cache, prefix ?? "");
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  } catch (error) {
    note(`no private copy could be unpacked: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

/** What a killed process has left behind: older than any attempt can take. */
async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(workPrefix)) continue;
    const path = join(cache, name);
    const made = await stat(path).catch(() => null);
    if (made !== null && Date.now() - made.mtimeMs > abandonedMs) await rm(path, { recursive: true, force: true });
  }
}

/** One attempt, in a folder of its own that is removed afterwards. */
class Unpacking {
  readonly #work: string;
  readonly #options: FindOptions;
  readonly #root: string;
  readonly #downloads: string;

  constructor(work: string, options: FindOptions) {
    this.#work = work;
    this.#options = options;
    this.#root = join(work, "root");
    this.#downloads = join(work, "downloads");
  }

  async run(cache: string, prefix: string): Promise<RedisBinary> {
    this.#progress("No redis-server on PATH: looking into this distribution's packages (nothing gets installed).");
    await this.#prepare();
    // Its exit code is not asked for: one broken third-party source must not stand in the way of the others.
    const update = await this.#apt("apt-get", ["-qq", "update"], updateTimeoutMs);
    const chosen = await this.#choose(update);
    this.#progress(`Unpacking ${chosen.names[0]} ${chosen.version} into ${cache}.`);
    await this.#take(chosen.names);
    const command = await this.#serverProgram();
    await this.#takeLibraries(command, chosen.names);

    const manifest: Manifest = {
      command: relative(this.#root, command),
      libraries: (await libraryDirectories(this.#root)).map((directory) => relative(this.#root, directory)),
    };
    await rm(join(this.#root, "usr/share"), { recursive: true, force: true });
    await writeFile(join(this.#root, "parley.json"), JSON.stringify(manifest));
    const tried = await tryCopy(this.#root, this.#options);
    if (typeof tried === "string") throw new Error(tried);
    return await this.#publish(join(cache, `${prefix}${fileName(chosen.version)}`));
  }

  async #prepare(): Promise<void> {
    for (const directory of ["lists/partial", "cache/archives/partial", "downloads", "root"]) {
      await mkdir(join(this.#work, directory), { recursive: true });
    }
    // A file, since only a file can #clear the hooks of the system's configuration: they'd act on the system's cache.
    // The sandbox user could not enter this folder.
    const settings = [
      "#clear APT::Update::Pre-Invoke;",
      "#clear APT::Update::Post-Invoke;",
      "#clear APT::Update::Post-Invoke-Success;",
      `Dir::State::Lists "${join(this.#work, "lists")}/";`,
      `Dir::Cache "${join(this.#work, "cache")}/";`,
      'Dir::Cache::pkgcache "";',
      'Dir::Cache::srcpkgcache "";',
      'APT::Sandbox::User "";',
      'Acquire::Languages "none";',
      'Acquire::Retries "2";',
      'Acquire::http::Timeout "20";',
      'Acquire::https::Timeout "20";',
    ];
    await writeFile(join(this.#work, "apt.conf"), settings.join("\n") + "\n");
  }

  /** The first pair of packages that is recent enough. */
  async #choose(update: CommandResult): Promise<{ names: readonly [string, string]; version: string }> {
    const old: string[] = [];
    for (const names of packagePairs) {
      const policy = await this.#apt("apt-cache", ["policy", names[0]], localTimeoutMs);
      const version = /^\s*Candidate:\s*(\S+)/m.exec(policy.stdout)?.[1];
      const parsed = version === undefined ? null : parsePackageVersion(version);
      if (version === undefined || parsed === null) continue;
      if (isRecentEnough(parsed)) return { names, version };
      old.push(`${names[0]} ${version}`);
    }
    if (old.length > 0) throw new Error(`the distribution has only ${old.join(", ")}, older than ${oldestVersion}`);
    throw new Error(`its packages hold no redis-server, or cannot be reached. ${lastLines(update.stderr, 3)}`.trim());
  }

  /** Downloads and unpacks; gives the paths of the packages. */
  async #take(names: readonly string[]): Promise<string[]> {
    const before = new Set(await readdir(this.#downloads));
    const result = await this.#apt("apt-get", ["-qq", "download", ...names], downloadTimeoutMs);
    if (result.code !== 0) throw new Error(`apt-get download failed: ${lastLines(result.stderr, 3)}`);
    const files = (await readdir(this.#downloads)).filter((name) => name.endsWith(".deb") && !before.has(name));
    for (const file of files) {
      const unpacked = await this.#run("dpkg-deb", ["-x", join(this.#downloads, file), this.#root], localTimeoutMs);
      if (unpacked.code !== 0) throw new Error(`dpkg-deb -x ${file} failed: ${lastLines(unpacked.stderr, 3)}`);
    }
    return files.map((file) => join(this.#downloads, file));
  }

  async #serverProgram(): Promise<string> {
    for (const name of ["redis-server", "valkey-server"]) {
      const command = join(this.#root, "usr/bin", name);
      // stat follows the link: a dangling one doesn't count.
      if (
        await stat(command).then(
          (found) => found.isFile(),
          () => false,
        )
      )
        return command;
    }
    throw new Error("the packages hold no usr/bin/redis-server");
  }

  /**
   * Unpacks the dependencies that this system lacks, level by level, until the loader finds all it needs. The loader
   * decides, not the package list: most dependencies are for the service around the program.
   */
  async #takeLibraries(command: string, names: readonly string[]): Promise<void> {
    const known = new Set<string>(names);
    let level: readonly string[] = names;
    for (let depth = 0; ; depth += 1) {
      const missing = await this.#missingLibraries(command);
      if (missing.length === 0) return;
      const next: string[] = [];
      for (const name of depth < maxDependencyDepth ? await this.#dependencies(level) : []) {
        if (known.has(name) || neverUnpacked.test(name) || (await this.#isInstalled(name))) continue;
        known.add(name);
        next.push(name);
      }
      if (next.length === 0) throw new Error(`no package holds ${missing.join(", ")}`);
      await this.#take(next);
      level = next;
    }
  }

  async #missingLibraries(command: string): Promise<string[]> {
    const path = (await libraryDirectories(this.#root)).join(":");
    const environment = { ...this.#options.environment, LC_ALL: "C", LD_LIBRARY_PATH: path };
    const result = await runCommand("ldd", [command], { environment, timeoutMs: localTimeoutMs });
    return [...result.stdout.matchAll(/^\s*(\S+) => not found/gm)].flatMap((match) => match[1] ?? []);
  }

  /** Names only, of alternatives each: what exists of them is decided by download. */
  async #dependencies(names: readonly string[]): Promise<string[]> {
    const args = ["depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
    const result = await this.#apt("apt-cache", [...args, "--no-enhances", ...names], localTimeoutMs);
    // "<name>" is a virtual package; a leading "|" says that the next line would do as well.
    return [...result.stdout.matchAll(/^ +(?:Pre)?Depends: ([a-z0-9][^\s<:]+)/gm)].flatMap((match) => match[1] ?? []);
  }

  async #isInstalled(name: string): Promise<boolean> {
    const result = await this.#run("dpkg-query", ["-W", "-f", "${db:Status-Status}\\n", name], localTimeoutMs);
    return result.code === 0 && result.stdout.split("\n").includes("installed");
  }

  /** Another process may do the same at the same time: the first rename wins, and both use that one. */
  async #publish(target: string): Promise<RedisBinary> {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const renamed = await rename(this.#root, target).then(
        () => true,
        () => false,
      );
      const tried = await tryCopy(target, this.#options);
      if (typeof tried !== "string") return tried;
      if (renamed) throw new Error(tried);
      // What lies there is broken (a half-deleted cache): aside with it, into the folder that gets removed.
      await rename(target, join(this.#work, `broken-${attempt}`)).catch(() => undefined);
    }
    throw new Error(`${target} cannot be written`);
  }

  #apt(command: "apt-get" | "apt-cache", args: readonly string[], timeoutMs: number): Promise<CommandResult> {
    return this.#run(command, ["-c", join(this.#work, "apt.conf"), ...args], timeoutMs);
  }

  #run(command: string, args: readonly string[], timeoutMs: number): Promise<CommandResult> {
    const environment = { ...this.#options.environment, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
    return runCommand(command, args, { environment, timeoutMs, cwd: this.#downloads });
  }

  #progress(text: string): void {
    this.#options.onProgress?.(text);
  }
}

async function tryCopy(root: string, options: FindOptions): Promise<RedisBinary | string> {
  const manifest = await readManifest(root);
  if (manifest === null) return `${root} is no complete copy`;
  const inherited = options.environment["LD_LIBRARY_PATH"];
  const path = [...manifest.libraries.map((directory) => join(root, directory)), ...(inherited ? [inherited] : [])];
  // None: setting it to "" would mean the working directory.
  const env = path.length > 0 ? { LD_LIBRARY_PATH: path.join(":") } : {};
  return await tryBinary(join(root, manifest.command), env, options.environment);
}

async function readManifest(root: string): Promise<Manifest | null> {
  try {
    const parsed: unknown = JSON.parse(await readFile(join(root, "parley.json"), "utf8"));
    if (typeof parsed !== "object" || parsed === null || !("command" in parsed) || !("libraries" in parsed))
      return null;
    const { command, libraries } = parsed;
    if (typeof command !== "string" || !Array.isArray(libraries)) return null;
    return { command, libraries: libraries.filter((each) => typeof each === "string") };
  } catch {
    return null;
  }
}

/** Every folder below that holds shared libraries. */
async function libraryDirectories(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const libraries = entries.filter((entry) => !entry.isDirectory() && /\.so(\.|$)/.test(entry.name));
  return [...new Set(libraries.map((entry) => entry.parentPath))];
}

/** <cache>/parley as the XDG base directories have it; null where there is no home. */
export function cacheDirectory(environment: FindOptions["environment"]): string | null {
  const xdg = environment["XDG_CACHE_HOME"];
  // By that specification a relative path is to be ignored.
  if (xdg !== undefined && isAbsolute(xdg)) return join(xdg, "parley");
  const home = environment["HOME"];
  return home !== undefined && isAbsolute(home) ? join(home, ".cache", "parley") : null;
}

/** Home folders are shared between machines: a copy is for one distribution, version and architecture. */
async function copyPrefix(): Promise<string | null> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => null);
  if (release === null || process.platform !== "linux") return null;
  const field = (name: string): string | undefined => new RegExp(`^${name}="?([^"\n]*)`, "m").exec(release)?.[1];
  return `${fileName(`${field("ID") ?? "linux"}-${field("VERSION_ID") ?? "rolling"}`)}-${process.arch}-`;
}

/** Without the epoch: a colon separates in LD_LIBRARY_PATH. */
function fileName(text: string): string {
  return text.replace(/^\d+:/, "").replace(/[^A-Za-z0-9.~+-]/g, "_");
}
