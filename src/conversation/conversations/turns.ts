import { randomUUID } from "node:crypto";
import { costOf, stepCost } from "./cost.ts";
import type { Feeds, RunWatcher } from "../ports/feeds.ts";
import { sessionTag } from "../message/ids.ts";
import { type Quotas } from "../ports/quotas.ts";
import type { Replies, ReplyOutcome, Step } from "../ports/model.ts";
import { ReplyStream } from "./reply-stream.ts";
import { RunSteps } from "./run-steps.ts";
import { Summaries } from "./summaries.ts";
import { isFinal, type Run, type RunErrorCode } from "../run.ts";
import { templateOfReply } from "../message/stored-message.ts";
import type { FinishedTurn, SessionStore, StartedTurn, TurnEnd } from "../ports/store.ts";
import { type RunEnding, type Span, type Telemetry } from "../ports/telemetry.ts";

interface TurnSettings {
  /** How long a lease holds without being renewed, in ms. */
  readonly leaseMs: number;
  /** How long a run waits for decisions on its calls of tools. */
  readonly approvalTimeoutMs: number;
  /** The instructions of a session that has none of its own. */
  readonly systemPrompt: string | null;
  /** What is kept of a run's parts beside its text, in bytes. */
  readonly partsBytes: number;
  readonly quotas: Quotas;
  readonly telemetry: Telemetry;
  /** The session is to get a title by itself. */
  readonly onFirstReply: (turn: StartedTurn) => void;
  readonly onError: (error: unknown) => void;
  readonly now: () => number;
}

type TurnOfUser = StartedTurn & { readonly userToken: string | null };

interface Going {
  readonly controller: AbortController;
  /** As this process ended it; null: somebody else did. */
  readonly ended: Promise<Run | null>;
}

const retryMs = 250;
const watchAfterMs = 50;

/**
 * The runs of this process. A run goes on when its client is gone (P6); it ends with its model's reply, by a stop that
 * its session's channel tells of, or with this process.
 *
 *     begin, attend or respond ─▶ chain ─▶ finish ─▶ attend (the next that waits, where it is ours; its own process hears of the end)
 *                          └─ text ─▶ ReplyStream ─▶ store
 */
export class Turns {
  readonly #store: SessionStore;
  readonly #feeds: Feeds;
  readonly #replies: Replies;
  readonly #settings: TurnSettings;
  readonly #quotas: Quotas;
  readonly #going = new Map<string, Going>();
  /** Waiting runs of this process: run id -> stops watching, and the token of who asked for it. */
  readonly #waiting = new Map<string, { readonly stop: () => void; readonly userToken: string | null }>();
  readonly #summaries: Summaries;
  #closing = false;

  constructor(store: SessionStore, feeds: Feeds, replies: Replies, settings: TurnSettings) {
    this.#store = store;
    this.#feeds = feeds;
    this.#replies = replies;
    this.#settings = settings;
    this.#quotas = settings.quotas;
    this.#summaries = new Summaries(store, replies, settings);
  }

  get size(): number {
    return this.#going.size;
  }

  /** Runs of this process that wait for their turn. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Carries out a turn that was started for this process. `userToken`: of who asked for it, or lets it go on; null: nobody did here. */
  start(turn: StartedTurn, userToken: string | null = null): void {
    if (this.#going.has(turn.runId)) return;
    const token = userToken ?? this.#waiting.get(turn.runId)?.userToken ?? null;
    this.#stopWaiting(turn.runId);
    this.#quotas.hold(turn.owner, turn.runId);
    const controller = new AbortController();
    // It may have been asked for by another request, or at another gateway, than the one that starts it.
    const span = this.#settings.telemetry.begin({ kind: "run", runId: turn.runId, origin: turn.state.origin });
    const ended = span
      .inside(() => this.#carryOut({ ...turn, userToken: token }, controller, span))
      .catch((error: unknown) => {
        this.#settings.onError(error);
        return null;
      })
      // Told already, unless something unexpected was thrown.
      .finally(() => span.end("INTERNAL_SERVER_ERROR"))
      .finally(() => {
        this.#going.delete(turn.runId);
        this.#quotas.release(turn.owner, turn.runId);
      });
    this.#going.set(turn.runId, { controller, ended });
  }

  /**
   * Takes the next run that waits, and closes one whose process died. Resolves with when the session's runs need somebody
   * again (0: they don't), or with null where this process is ending and has not looked.
   */
  async attend(historyKey: string, takeAny: boolean): Promise<number | null> {
    if (this.#closing) return null;
    const { turn, dueAt } = await this.#store.attend(historyKey, takeAny);
    if (turn) this.start(turn);
    return dueAt;
  }

  /** A run of this process waits in the session: it is taken as soon as the turn is free. */
  enqueued(owner: string, sessionId: string, historyKey: string, runId: string, userToken: string | null): void {
    if (this.#waiting.has(runId) || this.#going.has(runId)) return;
    this.#quotas.hold(owner, runId);
    const over = () => {
      this.#stopWaiting(runId);
      this.#quotas.release(owner, runId);
    };
    const attend = () => this.attend(historyKey, false).catch(this.#settings.onError);
    const ask = async () => {
      if (this.#waiting.has(runId) && (await this.#isOver(owner, sessionId, runId))) over();
    };
    let isNew = true;
    const watcher: RunWatcher = {
      onEnded: (ended) => {
        if (ended.includes(runId)) over();
        else void attend();
      },
      onUnsure: () => {
        const attended = attend();
        // That it was cancelled may have been said while nobody here could hear it.
        if (!isNew) void attended.then(ask).catch(this.#settings.onError);
        isNew = false;
      },
    };
    const stop = this.#watch(historyKey, watcher, ask);
    this.#waiting.set(runId, { stop, userToken });
  }

  /** Resolves when the run has ended or waits for decisions, after `waitMs`, or when `signal` aborts; with the run, where this process has ended it. */
  async ended(
    owner: string,
    sessionId: string,
    historyKey: string,
    runId: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<Run | null> {
    const here = this.#going.get(runId);
    let stop: () => void = () => undefined;
    const told = here
      ? here.ended
      : new Promise<null>((resolve) => {
          const ask = async () => {
            if (await this.#isOver(owner, sessionId, runId, true)) resolve(null);
          };
          const watcher: RunWatcher = {
            onEnded: (ended) => {
              if (ended.includes(runId)) resolve(null);
            },
            onWaiting(waiting) {
              if (waiting.includes(runId)) resolve(null);
            },
            onUnsure: () => void ask().catch(this.#settings.onError),
          };
          stop = this.#watch(historyKey, watcher, ask);
        });
    let timer: NodeJS.Timeout | undefined;
    let onAbort: () => void = () => undefined;
    const limit = new Promise<null>((resolve) => {
      onAbort = () => resolve(null);
      timer = setTimeout(onAbort, waitMs);
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) onAbort();
    });
    const ended = await Promise.race([told, limit]);
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    stop();
    return ended;
  }

  /** Lets what is going end within `graceMs`, then closes the rest as lost, their text kept. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    for (const runId of this.#waiting.keys()) this.#stopWaiting(runId);
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise<void>((resolve) => (timer = setTimeout(resolve, graceMs)));
    await Promise.race([this.#all(), grace]);
    clearTimeout(timer);
    for (const { controller } of this.#going.values()) controller.abort();
    // Redis may be away for good: that must not keep the process from ending.
    await Promise.race([this.#all(), new Promise<void>((resolve) => setTimeout(resolve, 2000).unref())]);
  }

  async #all(): Promise<void> {
    await Promise.all([...this.#going.values()].map((one) => one.ended));
  }

  /** A run's end is published. That it went with its session, which expired, is not: asked for once a lease. */
  #watch(historyKey: string, watcher: RunWatcher, ask: () => Promise<void>): () => void {
    const stop = this.#feeds.watch(historyKey, watcher);
    const asking = setInterval(() => void ask().catch(this.#settings.onError), this.#settings.leaseMs);
    return () => {
      clearInterval(asking);
      stop();
    };
  }

  /** Whether the run has ended, or is gone; with `orWaits` also whether it waits for decisions. */
  async #isOver(owner: string, sessionId: string, runId: string, orWaits = false): Promise<boolean> {
    const reading = await this.#store.read(owner, sessionId, { pages: [], runId });
    return !reading?.run || isFinal(reading.run.status) || (orWaits && reading.run.status === "WAITING");
  }

  #stopWaiting(runId: string): void {
    this.#waiting.get(runId)?.stop();
    this.#waiting.delete(runId);
  }

  async #carryOut(turn: TurnOfUser, controller: AbortController, span: Span): Promise<Run | null> {
    const { telemetry } = this.#settings;
    const startedAt = performance.now();
    const seconds = () => (performance.now() - startedAt) / 1000;
    let spoke = false;
    let closed = false;
    const close = () => {
      closed = true;
      controller.abort();
    };
    const renew = async () => {
      if (!closed && !(await this.#store.renew(turn))) close();
    };
    const tryRenew = () => void renew().catch(this.#settings.onError);
    let stopWatching: () => void = () => undefined;
    // A reply that is there at once needs no watch; one that was stopped before the watch began learns it by renewing.
    const watching = setTimeout(() => {
      stopWatching = this.#feeds.watch(turn.historyKey, {
        onEnded: (ended) => {
          if (ended.includes(turn.runId)) close();
        },
        onUnsure: tryRenew,
      });
    }, watchAfterMs);
    const renewing = setInterval(tryRenew, this.#settings.leaseMs / 3);
    const stream = new ReplyStream(
      (offset, text, log) => this.#store.progress(turn, offset, text, log),
      close,
      this.#settings.partsBytes,
      turn.resumed?.log,
    );
    const steps = new RunSteps(turn, stream, this.#store, this.#settings.now);
    // Each request to a model is counted when it is answered: the run may go on for long.
    const count = (step: Step): void => {
      const cost = stepCost(turn, step);
      steps.spent += cost;
      this.#quotas.spend(turn.owner, steps.message.messageId, () => cost);
    };
    const chain = telemetry.begin({ kind: "chain", memory: turn.memory.strategy });
    const endsAs = (ending: RunEnding, code: RunErrorCode | null) => {
      telemetry.runEnded(ending, code, seconds());
      span.tell({ outcome: ending });
      span.end(code ?? "OK");
    };
    try {
      const outcome = await chain.inside(() =>
        this.#replies.reply({
          runId: turn.runId,
          model: turn.state.model,
          instructions: turn.instructions,
          systemPrompt: this.#settings.systemPrompt,
          memory: turn.memory,
          summary: turn.summary,
          rows: turn.rows,
          input: turn.inputRow,
          signal: controller.signal,
          resumed: steps.resumed,
          pageTools: turn.tools,
          userToken: turn.userToken,
          steps: {
            open(step) {
              count(step);
              return steps.open(step);
            },
            wait: async (step) => {
              count(step);
              // Ahead: who decides at once, elsewhere, counts it anew.
              this.#quotas.keep(turn.owner, turn.runId, this.#settings.approvalTimeoutMs);
              const waits = await steps.wait(step);
              if (!waits) this.#quotas.drop(turn.owner, turn.runId, false);
              return waits;
            },
            claim: () => steps.claim(),
            answer: (answer) => steps.answer(answer),
          },
          emit(piece) {
            stream.add(piece, steps.message.localId);
            if (spoke || piece.kind !== "text" || piece.text === "") return;
            spoke = true;
            telemetry.firstText(seconds());
            span.tell({ firstText: true });
          },
        }),
      );
      chain.end(outcome.kind === "failed" ? outcome.error.code : "OK");
      stream.stop();
      if (outcome.kind === "waiting") {
        span.tell({ outcome: "WAITING" });
        span.end("OK");
        return null;
      }
      // Its tokens were paid for, also where another process ended it.
      if (outcome.kind === "completed" && outcome.usage) telemetry.tokens(outcome.usage);
      this.#quotas.spend(turn.owner, turn.runId, () => Math.max(0, costOf(turn, outcome, stream.text) - steps.spent));
      // Before its end is published: a client that sees the end may send at once.
      this.#quotas.release(turn.owner, turn.runId);
      if (isClosed()) {
        endsAs("CLOSED", null);
        return null;
      }
      const end = this.#endOf(turn, outcome, stream, steps.message);
      const finished = await this.#finish(turn, end, isClosed);
      if (end.kind === "completed") endsAs("COMPLETED", null);
      else endsAs("FAILED", end.error.code);
      if (end.kind === "completed" && turn.memory.strategy === "SUMMARY_BUFFER")
        this.#summaries.after(turn, end.reply, finished?.run ?? null);
      if (finished?.wantsTitle) this.#settings.onFirstReply(turn);
      return finished?.run ?? null;
    } finally {
      chain.end("INTERNAL_SERVER_ERROR");
      stream.stop();
      clearInterval(renewing);
      clearTimeout(watching);
      stopWatching();
    }

    function isClosed(): boolean {
      return closed;
    }
  }

  #endOf(
    turn: StartedTurn,
    outcome: Exclude<ReplyOutcome, { readonly kind: "waiting" }>,
    { text, log, notes }: ReplyStream,
    { messageId, hint }: RunSteps["message"],
  ): TurnEnd {
    const all = [...(outcome.kind === "cancelled" ? [] : (outcome.notes ?? [])), ...notes];
    const beside = { ...(all.length === 0 ? {} : { notes: all }), ...(log === "" ? {} : { log }) };
    switch (outcome.kind) {
      case "completed": {
        const note = {
          session: sessionTag(turn.historyKey),
          runId: turn.runId,
          hint,
          createdAt: this.#settings.now(),
        };
        const reply = templateOfReply(outcome.data, messageId, note);
        const { text: whole, usage, isStructured = false } = outcome;
        return { kind: "completed", reply, text: whole, usage, isStructured, ...beside };
      }
      case "failed":
        return { kind: "failed", text, error: outcome.error, ...beside };
      case "cancelled":
        return {
          kind: "failed",
          text,
          error: {
            code: "RUN_LOST",
            message: "The gateway was stopped before this reply was complete.",
            retryable: true,
          },
          ...beside,
        };
    }
  }

  /** Repeated until Redis takes it: a reply that was paid for is not given up. */
  async #finish(turn: StartedTurn, end: TurnEnd, isClosed: () => boolean): Promise<FinishedTurn | null> {
    const op = `i:${randomUUID()}`;
    for (;;) {
      try {
        return await this.#store.finish(turn, end, op);
      } catch (error) {
        this.#settings.onError(error);
        await new Promise((resolve) => setTimeout(resolve, retryMs));
        // Another process found the lease ended and closed the run: nothing left to write.
        if (isClosed()) return null;
      }
    }
  }
}
