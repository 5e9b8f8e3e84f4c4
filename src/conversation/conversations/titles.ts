import { tokensIn } from "./cost.ts";
import { badInput, ParleyError } from "../errors.ts";
import { uuidv7 } from "../message/ids.ts";
import { type Quotas } from "../ports/quotas.ts";
import type { Replies } from "../ports/model.ts";
import type { PageRequest, Session } from "../session.ts";
import type { SessionStore, StartedTurn } from "../ports/store.ts";
import { type Telemetry } from "../ports/telemetry.ts";

interface TitleSettings {
  /** Of sessions that have none of their own. */
  readonly model: string;
  /** How long generateTitle waits for a title, in ms. */
  readonly replyWaitMs: number;
  /** How long after a session's first reply its title is made. */
  readonly delayMs: number;
  readonly quotas: Quotas;
  readonly telemetry: Telemetry;
  readonly onError: (error: unknown) => void;
  readonly now: () => number;
}

/** A page that asks for a title itself does so right behind the first reply, and the owner is not to pay for two. */
export const titleDelayMs = 2000;

type Made = Awaited<ReturnType<Replies["title"]>>;

/** What a title is made of: the beginning of a history. */
export const beginning: PageRequest = { first: 20, after: null, last: null, before: null };

/** Titles that a model makes: where somebody asks for one, and by themselves after a session's first reply. */
export class Titles {
  readonly #store: SessionStore;
  readonly #replies: Replies;
  readonly #settings: TitleSettings;
  readonly #quotas: Quotas;
  readonly #closing = new AbortController();
  /** Titles that are to be made, by owner and session. */
  readonly #due = new Map<string, NodeJS.Timeout>();

  constructor(store: SessionStore, replies: Replies, settings: TitleSettings) {
    this.#store = store;
    this.#replies = replies;
    this.#settings = settings;
    this.#quotas = settings.quotas;
  }

  /**
   * A title that the owner asked for; it counts like a turn. `session`: read with `beginning` as its page.
   * @throws {ParleyError} BAD_USER_INPUT where there are no messages; RATE_LIMITED
   */
  async ask(session: Session, model: string | null): Promise<Made> {
    const { telemetry, replyWaitMs, now } = this.#settings;
    const rows = rowsOf(session);
    if (rows.length === 0)
      throw badInput("input.sessionId", "The session has no messages yet that a title could be made of.");
    const { owner } = session;
    const id = uuidv7(now());
    this.#cancel(dueKey(owner, session.sessionId));
    try {
      await this.#quotas.admit(owner, id);
    } catch (error) {
      if (error instanceof ParleyError && error.details.limit) telemetry.limited(error.details.limit);
      throw error;
    }
    this.#quotas.hold(owner, id);
    try {
      return await this.#make(session, rows, model, id, AbortSignal.timeout(replyWaitMs));
    } finally {
      this.#quotas.release(owner, id);
    }
  }

  /**
   * Off the turn's path, and only once for a session: its store has told this process alone. Nobody asked for it, so it
   * takes none of the owner's sends and places, but costs tokens; none is made where it could exceed a limit of the owner.
   * What fails here leaves the session without a title.
   */
  afterFirstReply(turn: StartedTurn): void {
    const key = dueKey(turn.owner, turn.sessionId);
    this.#cancel(key);
    const make = () => {
      this.#due.delete(key);
      this.#give(turn);
    };
    if (!this.#closing.signal.aborted) this.#due.set(key, setTimeout(make, this.#settings.delayMs).unref());
  }

  /** Titles that nobody asked for are given up. */
  close(): void {
    this.#closing.abort();
    for (const key of this.#due.keys()) this.#cancel(key);
  }

  #cancel(key: string): void {
    clearTimeout(this.#due.get(key));
    this.#due.delete(key);
  }

  #give(turn: StartedTurn): void {
    const { telemetry, onError } = this.#settings;
    const span = telemetry.begin({ kind: "title" });
    span
      .inside(() => this.#giveTitle(turn))
      .then(
        () => span.end("OK"),
        (error: unknown) => {
          if (!this.#closing.signal.aborted) onError(error);
        },
      )
      .finally(() => span.end("INTERNAL_SERVER_ERROR"));
  }

  async #giveTitle({ owner, sessionId, runId }: StartedTurn): Promise<void> {
    const { signal } = this.#closing;
    if (signal.aborted) return;
    const session = (await this.#store.read(owner, sessionId, { pages: [beginning] }))?.session;
    if (session?.title !== null) return;
    const rows = rowsOf(session);
    if (!(await this.#quotas.hasRoom(owner, tokensIn(rows)))) return;
    const made = await this.#make(session, rows, null, `${runId}:title`, signal);
    if ("title" in made) await this.#store.giveTitle(owner, sessionId, session.generation, made.title);
  }

  async #make(
    session: Session,
    rows: readonly string[],
    model: string | null,
    id: string,
    signal: AbortSignal,
  ): Promise<Made> {
    try {
      return await this.#replies.title({ model: model ?? session.model ?? this.#settings.model, rows, signal });
    } finally {
      this.#quotas.spend(session.owner, id, () => tokensIn(rows));
    }
  }
}

function dueKey(owner: string, sessionId: string): string {
  return JSON.stringify([owner, sessionId]);
}

function rowsOf({ pages: [page] }: Session): readonly string[] {
  return page && !(page instanceof Error) ? page.rows.map((row) => row.raw) : [];
}
