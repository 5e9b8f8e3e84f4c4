import type { Worker } from "node:cluster";
import type { Peers } from "../../gateway.ts";
import type { Figures } from "../../telemetry/metrics.ts";
import type { Ready, StartFailure, ToPrimary, ToWorker } from "./messages.ts";

/** Beyond the grace of replies: a worker that hangs keeps the others no longer. */
const settleMs = 2000;

/** A worker's end of the channel to its primary. When the primary goes, Node ends the worker. */
export class PrimaryLink implements Peers {
  readonly #worker: Worker;
  readonly #pages = new Map<number, (text: string) => void>();
  #lastPage = 0;
  #graceMs = 0;
  readonly #allSettled = Promise.withResolvers<undefined>();
  #figures: () => Promise<Figures> = () => Promise.resolve([]);

  /** `onStop`: the primary wants the worker to end. */
  constructor(worker: Worker, onStop: (graceMs: number) => void) {
    this.#worker = worker;
    worker.on("message", (message: ToWorker) => {
      switch (message.kind) {
        case "stop":
          this.#graceMs = message.graceMs;
          onStop(message.graceMs);
          return;
        case "all-settled":
          this.#allSettled.resolve(undefined);
          return;
        case "figures":
          void this.#figures().then((figures) => this.#tell({ kind: "figures", id: message.id, figures }));
          return;
        case "page":
          this.#pages.get(message.id)?.(message.text);
          this.#pages.delete(message.id);
      }
    });
    this.#tell({ kind: "hello" });
  }

  ready(ready: Ready): void {
    this.#tell({ kind: "ready", ...ready });
  }

  /** Resolves when the primary has it. */
  failed(failure: StartFailure): Promise<void> {
    return new Promise((resolve) => {
      this.#worker.send({ kind: "failed", ...failure } satisfies ToPrimary, () => resolve());
    });
  }

  offer(figures: () => Promise<Figures>): void {
    this.#figures = figures;
  }

  async settled(): Promise<void> {
    this.#tell({ kind: "settled" });
    const timer = setTimeout(() => this.#allSettled.resolve(undefined), this.#graceMs + settleMs);
    await this.#allSettled.promise;
    clearTimeout(timer);
  }

  text(): Promise<string> {
    return new Promise((resolve) => {
      const id = ++this.#lastPage;
      this.#pages.set(id, resolve);
      this.#tell({ kind: "page", id });
    });
  }

  #tell(message: ToPrimary): void {
    // A primary that is gone hears nothing, and this process ends.
    if (this.#worker.isConnected()) this.#worker.send(message);
  }
}
