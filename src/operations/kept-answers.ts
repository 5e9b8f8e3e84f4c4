import type { ExecutionResult } from "graphql";
import { LRUCache } from "lru-cache";
import type { Viewer } from "../conversation/session.ts";
import type { Context } from "../graphql/context.ts";
import type { KnownSession } from "../graphql/reading/readings.ts";
import type { KnownOperation } from "./documents.ts";
import { WrittenResult } from "./results.ts";

/** Memory for answers, as estimated: some hundred pages of 50 messages. */
const keptBytes = 64 * 1024 * 1024;
/** Of so many answers it is noted that they were made once. */
const notedAnswers = 4096;

/** An answer that was made before, of one reading of a session and of nothing else. */
export class KeptAnswer extends WrittenResult {
  readonly #session: Omit<KnownSession, "isSame">;

  constructor(session: Omit<KnownSession, "isSame">, json: string) {
    super(json);
    this.#session = session;
  }

  /** For a reading that has yet to say whether it holds. */
  get known(): KnownSession {
    return { ...this.#session, isSame: false };
  }
}

/**
 * Answers to what is asked again and again, as a page of a chat that is polled, or fetched anew whenever its tab is looked
 * at. Redis is asked each time whether the session is as it was (Session.state); where it is, neither its rows are sent nor
 * the operation's fields resolved. An answer is kept from its second time on, so that what is asked once costs a note.
 */
export class KeptAnswers {
  readonly #answers = new LRUCache<string, KeptAnswer>({
    maxSize: keptBytes,
    maxEntrySize: keptBytes / 8,
    // Two bytes a character, where not all are Latin.
    sizeCalculation: ({ json }, key) => 1024 + 2 * (json.length + key.length),
  });
  readonly #made = new LRUCache<string, true>({ max: notedAnswers });

  /** `execute` uses this context. Kept is what was made of one reading of a session, where nothing else was asked for. */
  async answer(
    operation: KnownOperation,
    variables: Readonly<Record<string, unknown>> | undefined,
    context: Context,
    execute: () => ExecutionResult | Promise<ExecutionResult>,
  ): Promise<ExecutionResult> {
    const key = operation.description.field === "session" ? keyOf(operation, context.viewer, variables) : null;
    if (key === null) return execute();
    const before = this.#answers.get(key);
    if (before !== undefined) context.known = before.known;
    const result = await execute();
    if (before !== undefined && context.known?.isSame === true) return before;
    // First its errors: a reading that failed says so once more.
    if (result.errors !== undefined || context.asked !== 1) return result;
    const session = (await context.readings?.only)?.session;
    if (session === undefined || session.state === "") return result;
    if (before === undefined && this.#made.get(key) === undefined) {
      this.#made.set(key, true);
      return result;
    }
    const { sessionId, state } = session;
    const json = result instanceof WrittenResult ? result.json : JSON.stringify({ data: result.data });
    const answer = new KeptAnswer({ sessionId, state }, json);
    this.#answers.set(key, answer);
    return answer;
  }
}

/** null: the variables nest too deeply to be written, and the operation is to say so. */
function keyOf({ number }: KnownOperation, viewer: Viewer, variables: unknown): string | null {
  try {
    return `${number} ${JSON.stringify([viewer, variables])}`;
  } catch {
    return null;
  }
}
