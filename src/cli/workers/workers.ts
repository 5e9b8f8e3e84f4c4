import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { freePort } from "../../embedded-redis/port.ts";
import type { Logger } from "../../gateway.ts";
import type { GatheredMetrics } from "../../telemetry/gathered-metrics.ts";
import type { Figures } from "../../telemetry/metrics.ts";
import { assignmentVariable, type Assignment, type Ready, type StartFailure } from "./messages.ts";
import type { ToPrimary, ToWorker } from "./messages.ts";

interface WorkersOptions {
  readonly count: number;
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  readonly redisUrl: string | null;
  readonly logger: Logger;
  /** null: there is no such page. */
  readonly metrics: ((ready: () => number) => GatheredMetrics) | null;
}

/** A worker could not start, and so nothing does. */
export class WorkerFailed extends Error {
  override readonly name = "WorkerFailed";
  readonly worker: number;
  readonly failure: StartFailure;

  constructor(worker: number, failure: StartFailure) {
    super(failure.message);
    this.worker = worker;
    this.failure = failure;
  }
}

/** One that has lived for so long was none that dies again and again: the next one starts at once. */
const steadyMs = 60_000;
const firstDelayMs = 250;
const longestDelayMs = 30_000;
/** Beyond the grace of replies: sockets and connections to Redis are closed meanwhile, and the last traces are sent. */
const closeLimitMs = 15_000;
/** A worker that does not say within that time what it has measured is counted as it last was. */
const figuresLimitMs = 2000;
/** Of a free port that somebody else takes before a worker listens to it. */
const portAttempts = 5;

/** One of the n processes: who does its work now, and what became of those before. */
class Slot {
  readonly number: number;
  worker: Worker | null = null;
  state: "starting" | "hears" | "ready" | "gone" = "gone";
  /** While all of them stop: whether its replies have ended. */
  settled = false;
  failure: StartFailure | null = null;
  /** Whether Redis answered it when it began to listen. */
  redisAnswers = false;
  startedAt = 0;
  /** How many in a row have lived only for a short time. */
  shortLives = 0;
  timer: NodeJS.Timeout | null = null;

  constructor(number: number) {
    this.number = number;
  }
}

/**
 * The primary's side: starts the workers, replaces those that die, and ends them together. Workers share the port: the
 * primary takes connections and gives them out in turn, never to one that has not taken its last one yet.
 *
 *     starting ─(hello)─▶ hears ─(listens)─▶ ready ─(dies)─▶ gone ─(back-off)─▶ starting
 */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #slots: readonly Slot[];
  readonly #metrics: GatheredMetrics | null;
  /** Of those that are asked for their figures. */
  readonly #asked = new Map<number, (worker: number, figures: Figures) => void>();
  #lastAsked = 0;
  #port: number;
  /** Null once all have listened: from then on a death is no failure of the start. */
  #starting: PromiseWithResolvers<Ready> | null = null;
  /** A start has failed: whoever dies now is not replaced. */
  #givenUp = false;
  #closing: Promise<void> | null = null;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#port = options.port;
    this.#slots = Array.from({ length: options.count }, (_, i) => new Slot(i + 1));
    const ready = () => this.#slots.filter(({ state }) => state === "ready").length;
    this.#metrics = options.metrics?.(ready) ?? null;
    cluster.schedulingPolicy = cluster.SCHED_RR;
    // What workers have measured may be no number, which JSON has no word for.
    cluster.setupPrimary({ serialization: "advanced" });
  }

  /**
   * Resolves when all of them listen.
   * @throws {WorkerFailed} where one of them does not get so far; the others are ended then
   */
  async start(): Promise<Ready> {
    for (let attempt = 1; ; attempt++) {
      if (this.#options.port === 0) this.#port = await freePort(this.#options.host);
      try {
        return await this.#startAll();
      } catch (error) {
        this.#starting = null;
        this.#givenUp = true;
        await this.#end(0);
        this.#givenUp = false;
        const taken = error instanceof WorkerFailed && error.failure.error?.code === "EADDRINUSE";
        if (!taken || this.#options.port !== 0 || attempt === portAttempts || this.#closing !== null) throw error;
      }
    }
  }

  /** Ends all of them, each as one process ends, within the grace and a while. Rejects where one had to be killed. */
  close(graceMs: number): Promise<void> {
    return (this.#closing ??= this.#close(graceMs));
  }

  #startAll(): Promise<Ready> {
    if (this.#closing !== null) throw brokenOff();
    const starting = Promise.withResolvers<Ready>();
    this.#starting = starting;
    for (const slot of this.#slots) this.#fork(slot);
    return starting.promise;
  }

  #fork(slot: Slot): void {
    slot.timer = null;
    const { number } = slot;
    const assignment: Assignment = { worker: number, port: this.#port, redisUrl: this.#options.redisUrl };
    const worker = cluster.fork({ [assignmentVariable]: JSON.stringify(assignment) });
    Object.assign(slot, { worker, state: "starting", settled: false, failure: null, startedAt: performance.now() });
    worker.on("message", (message: ToPrimary) => this.#take(slot, message));
    // Something is on its way to a worker that dies just now: its end is told by "exit".
    worker.on("error", () => undefined);
    worker.on("exit", (code, signal) => this.#left(slot, code, signal));
  }

  #take(slot: Slot, message: ToPrimary): void {
    switch (message.kind) {
      case "hello":
        slot.state = "hears";
        return;
      case "ready":
        slot.state = "ready";
        slot.redisAnswers = message.redisAnswers;
        if (this.#starting === null) this.#options.logger.info({ worker: slot.number }, "The new worker listens.");
        if (this.#slots.some(({ state }) => state !== "ready")) return;
        this.#starting?.resolve({ ...message, redisAnswers: this.#slots.every((one) => one.redisAnswers) });
        this.#starting = null;
        return;
      case "failed":
        slot.failure = message;
        this.#starting?.reject(new WorkerFailed(slot.number, message));
        return;
      case "figures":
        this.#asked.get(message.id)?.(slot.number, message.figures);
        return;
      case "settled":
        slot.settled = true;
        this.#lookSettled();
        return;
      case "page":
        void this.#page().then((text) => tell(slot, { kind: "page", id: message.id, text }));
    }
  }

  /** `code`: null where a signal has ended it. */
  #left(slot: Slot, code: number | null, signal: string | null): void {
    const { number, failure } = slot;
    const how = signal ?? `exit code ${code ?? 0}`;
    slot.state = "gone";
    this.#lookSettled();
    this.#metrics?.left(number);
    if (this.#closing !== null || this.#givenUp) return;
    if (this.#starting !== null) {
      const message = `Worker ${number} ended before it was ready (${how}).`;
      this.#starting.reject(new WorkerFailed(number, { exitCode: 1, message, error: null }));
      return;
    }
    slot.shortLives = performance.now() - slot.startedAt < steadyMs ? slot.shortLives + 1 : 0;
    const delayMs = slot.shortLives === 0 ? 0 : Math.min(longestDelayMs, firstDelayMs * 2 ** (slot.shortLives - 1));
    const fields = { worker: number, code, signal, delayMs, ...(failure === null ? {} : { reason: failure.message }) };
    this.#options.logger.error(fields, "A worker has ended. Another one takes its place.");
    this.#metrics?.restarted();
    slot.timer = setTimeout(() => this.#fork(slot), delayMs);
  }

  async #page(): Promise<string> {
    const metrics = this.#metrics;
    if (metrics === null) return "";
    const id = ++this.#lastAsked;
    const told = new Map<number, Figures>();
    const missing = new Set(this.#slots.filter(({ state }) => state === "ready"));
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, figuresLimitMs);
      const look = () => {
        const waits = this.#slots.some((slot) => missing.has(slot) && slot.state === "ready" && !told.has(slot.number));
        if (waits) return;
        clearTimeout(timer);
        resolve();
      };
      this.#asked.set(id, (worker, figures) => {
        told.set(worker, figures);
        look();
      });
      for (const slot of missing) tell(slot, { kind: "figures", id });
      look();
    });
    this.#asked.delete(id);
    return await metrics.text(told);
  }

  /** Who follows a reply may do so at another worker than the one that makes it: sockets are closed when all have ended. */
  #lookSettled(): void {
    if (this.#slots.some(({ state, settled }) => (state === "hears" || state === "ready") && !settled)) return;
    for (const slot of this.#slots) if (slot.settled) tell(slot, { kind: "all-settled" });
  }

  async #close(graceMs: number): Promise<void> {
    for (const { timer } of this.#slots) if (timer !== null) clearTimeout(timer);
    const ends = await this.#end(graceMs);
    this.#starting?.reject(brokenOff());
    if (ends.includes("killed")) throw new Error("A worker did not stop in time, and was killed.");
    if (ends.includes("failed")) throw new Error("A worker failed while it stopped.");
  }

  /** Ends those that there are. */
  #end(graceMs: number): Promise<readonly End[]> {
    const living = this.#slots.filter(isAlive);
    return Promise.all(
      living.map(async (slot): Promise<End> => {
        const { worker } = slot;
        const ended = once(worker, "exit");
        // One that does not hear yet serves nobody, and has nothing to bring to an end.
        const serves = slot.state !== "starting";
        if (serves) tell(slot, { kind: "stop", graceMs });
        else worker.process.kill("SIGKILL");
        const timer = setTimeout(() => worker.process.kill("SIGKILL"), graceMs + closeLimitMs);
        await ended;
        clearTimeout(timer);
        const { exitCode, signalCode } = worker.process;
        if (!serves || exitCode === 0) return "done";
        return signalCode === "SIGKILL" ? "killed" : "failed";
      }),
    );
  }
}

type End = "done" | "failed" | "killed";

function brokenOff(): Error {
  return new Error("The start was broken off.");
}

type Living = Slot & { readonly worker: Worker };

function isAlive(slot: Slot): slot is Living {
  return slot.worker !== null && slot.state !== "gone" && !slot.worker.isDead();
}

function tell({ worker }: Slot, message: ToWorker): void {
  if (worker?.isConnected() === true) worker.send(message);
}
