import type { DescribedError } from "../../telemetry/logging.ts";
import type { Figures } from "../../telemetry/metrics.ts";

// What the primary and its workers say to each other.

/** What a worker is started with, as JSON in a variable of its environment, which it takes away. */
export interface Assignment {
  /** From 1 on; one that replaces another has its number. */
  readonly worker: number;
  readonly port: number;
  /** Of the redis-server that the primary runs; null: the workers' configuration says where Redis is. */
  readonly redisUrl: string | null;
}

export const assignmentVariable = "PARLEY_WORKER";

/** Why a start has failed, as it is told: with exit code 2 as a text on stderr, with 1 as a line of the log. */
export interface StartFailure {
  readonly exitCode: 1 | 2;
  readonly message: string;
  readonly error: DescribedError | null;
}

export interface Ready {
  readonly url: string;
  readonly model: string;
  readonly redisAnswers: boolean;
}

export type ToPrimary =
  /** It hears what it is told from now on. */
  | { readonly kind: "hello" }
  | ({ readonly kind: "ready" } & Ready)
  | ({ readonly kind: "failed" } & StartFailure)
  | { readonly kind: "figures"; readonly id: number; readonly figures: Figures }
  /** It was told to stop, and its replies have ended. */
  | { readonly kind: "settled" }
  /** Somebody reads /metrics. */
  | { readonly kind: "page"; readonly id: number };

export type ToWorker =
  | { readonly kind: "stop"; readonly graceMs: number }
  | { readonly kind: "all-settled" }
  | { readonly kind: "figures"; readonly id: number }
  | { readonly kind: "page"; readonly id: number; readonly text: string };
