import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lastLines } from "../../../src/embedded-redis/command.ts";
import type { RedisBinary } from "../../../src/embedded-redis/binary.ts";
import { findRedisServer } from "../../../src/embedded-redis/find.ts";
import { freePort } from "../../../src/embedded-redis/port.ts";
import { tellReaper } from "./process-reaper.ts";

/** A real redis-server on 127.0.0.1. */
export interface TestRedis {
  /** redis://[:password@]127.0.0.1:<port>/0 */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly directory: string;
  readonly running: boolean;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** Kills it if it runs, and starts it again on the same port and directory; resolves when it answers. */
  restart(): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** SIGKILL, and removes the directory if it was made for this server. May be called twice. */
  stop(): Promise<void>;
}

export interface ServerSpec {
  /** Left out: a free one. */
  readonly port?: number | undefined;
  /** Left out: a temporary one, removed by stop(). */
  readonly directory?: string | undefined;
  readonly password?: string | null;
  /** The command line; called before the first start. */
  readonly args: (port: number, directory: string) => readonly string[] | Promise<readonly string[]>;
  /** Whether the process of this id answers on the port. */
  readonly answers: (port: number, processId: number) => Promise<boolean>;
}

let binary: Promise<RedisBinary> | undefined;

/** The server program that all tests use: the gateway's own finder finds it. */
export function testBinary(): Promise<RedisBinary> {
  binary ??= findRedisServer({ environment: process.env, onProgress: (text) => console.info(text) });
  return binary;
}

const startLimitMs = 60_000;

/** Starts a server process and waits until it answers. Rejects with the tail of its log. It ends with this process. */
export async function startServerProcess(spec: ServerSpec): Promise<TestRedis> {
  const program = await testBinary();
  for (let attempt = 1; ; attempt += 1) {
    const port = spec.port ?? (await freePort());
    const directory = spec.directory ?? (await temporaryDirectory());
    const server = new ServerProcess(program, spec, port, directory, await spec.args(port, directory));
    try {
      await server.restart();
      return server;
    } catch (error) {
      await server.stop();
      // Another process may take the port between freePort() and the server's bind.
      if (spec.port !== undefined || attempt === 5 || !(error instanceof PortTaken)) throw error;
    }
  }
}

/** A folder that is removed when this process ends. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "parley-test-"));
  tellReaper("made", directory);
  return directory;
}

class PortTaken extends Error {}

class ServerProcess implements TestRedis {
  readonly host = "127.0.0.1";
  readonly url: string;
  readonly port: number;
  readonly directory: string;
  readonly #program: RedisBinary;
  readonly #spec: ServerSpec;
  readonly #args: readonly string[];
  readonly #log: string;
  #child: ChildProcess | null = null;
  #everAnswered = false;

  constructor(program: RedisBinary, spec: ServerSpec, port: number, directory: string, args: readonly string[]) {
    this.#program = program;
    this.#spec = spec;
    this.#args = args;
    this.port = port;
    this.directory = directory;
    this.#log = join(directory, `server-${port}.log`);
    const password = spec.password ?? null;
    this.url = `redis://${password === null ? "" : `:${encodeURIComponent(password)}@`}${this.host}:${port}/0`;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  async restart(): Promise<void> {
    await this.kill();
    const deadline = Date.now() + startLimitMs;
    for (;;) {
      const logged = await stat(this.#log).then(
        (found) => found.size,
        () => 0,
      );
      if (await this.#start(deadline)) {
        this.#everAnswered = true;
        return;
      }
      await this.kill();
      const tail = lastLines((await readFile(this.#log)).subarray(logged).toString("utf8"), 15);
      const what = `The server on port ${this.port} did not start:\n${tail}`;
      if (!/Address already in use|Failed listening on port/.test(tail)) throw new Error(what);
      // A port of our own from before: whoever took it is asked to wait for, not to be avoided.
      const ours = this.#everAnswered || this.#spec.port !== undefined;
      if (!ours || Date.now() > deadline) throw new PortTaken(what);
      await sleep(50);
    }
  }

  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    await this.kill();
    if (this.#spec.directory === undefined) await rm(this.directory, { recursive: true, force: true });
  }

  async #start(deadline: number): Promise<boolean> {
    const output = openSync(this.#log, "a", 0o600);
    const child = spawn(this.#program.command, this.#args, {
      cwd: this.directory,
      env: { ...process.env, ...this.#program.env },
      stdio: ["ignore", output, output],
      // A ^C in the terminal is for the test runner; a server that a test restarts must not see it first.
      detached: true,
    });
    closeSync(output);
    child.unref();
    this.#child = child;
    const { pid } = child;
    if (pid !== undefined) tellReaper("started", pid);
    const ended = (): void => {
      if (pid !== undefined) tellReaper("ended", pid);
      if (this.#child === child) this.#child = null;
    };
    child.once("exit", ended).once("error", ended);
    while (this.running && Date.now() < deadline) {
      if (pid !== undefined && (await this.#spec.answers(this.port, pid))) return true;
      await sleep(10);
    }
    return false;
  }
}
