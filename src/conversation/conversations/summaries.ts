import { tokensIn } from "./cost.ts";
import { markOf } from "../message/ids.ts";
import { fillTemplate, type RowTemplate } from "../message/stored-message.ts";
import type { Replies } from "../ports/model.ts";
import type { Run } from "../run.ts";
import type { Quotas } from "../ports/quotas.ts";
import type { SessionStore, StartedTurn } from "../ports/store.ts";
import type { Telemetry } from "../ports/telemetry.ts";

interface SummarySettings {
  readonly quotas: Quotas;
  readonly telemetry: Telemetry;
  readonly onError: (error: unknown) => void;
}

/** What is remembered of a session in short, made anew off a turn's path; a failure only means that the next turn tries again. */
export class Summaries {
  readonly #store: SessionStore;
  readonly #replies: Replies;
  readonly #settings: SummarySettings;
  readonly #quotas: Quotas;
  readonly #telemetry: Telemetry;

  constructor(store: SessionStore, replies: Replies, settings: SummarySettings) {
    this.#store = store;
    this.#replies = replies;
    this.#settings = settings;
    this.#quotas = settings.quotas;
    this.#telemetry = settings.telemetry;
  }

  after(turn: StartedTurn, reply: RowTemplate, run: Run | null): void {
    const { maxTokens } = turn.memory;
    if (maxTokens === null) return;
    const summarize = async () => {
      const rows = await this.#rowsBy(turn, reply, run);
      if (rows === null) return;
      const { model } = turn.state;
      const signal = AbortSignal.timeout(60_000);
      const summary = await this.#replies.summarize({ model, maxTokens, summary: turn.summary, rows, signal });
      if (summary) this.#quotas.spend(turn.owner, `${turn.runId}:summary`, () => tokensIn(rows));
      const last = summary && rows[summary.covered - 1];
      if (!summary || last === undefined || last === null) return;
      const session = await this.#store.read(turn.owner, turn.sessionId, { pages: [] });
      if (!session) return;
      const at = {
        generation: session.session.generation,
        position: turn.low + summary.covered - 1,
        mark: markOf(last),
      };
      await this.#store.saveSummary(turn.historyKey, at, summary.text);
    };
    const span = this.#telemetry.begin({ kind: "summary" });
    span
      .inside(summarize)
      .then(() => span.end("OK"), this.#settings.onError)
      .finally(() => span.end("INTERNAL_SERVER_ERROR"));
  }

  /** What the turn has read, and all that lies behind it up to its reply: also its steps. null: some of it is gone. */
  async #rowsBy(turn: StartedTurn, reply: RowTemplate, run: Run | null): Promise<readonly string[] | null> {
    const first = turn.low + turn.rows.length + 1;
    const before = [...turn.rows, turn.inputRow];
    const last = run?.rows?.last ?? first;
    if (last === first) return [...before, fillTemplate(reply, first)];
    const reading = await this.#store.read(turn.owner, turn.sessionId, { pages: [], ranges: [[first, last]] });
    const rows = reading?.ranges[0] ?? [];
    if (rows[0]?.position !== first || rows.at(-1)?.position !== last) return null;
    return [...before, ...rows.map(({ raw }) => raw)];
  }
}
