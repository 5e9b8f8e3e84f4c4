import { createHash } from "node:crypto";
import { ParleyError, badInput, notFound } from "../errors.ts";
import type { SessionChange } from "../events.ts";
import { mapped } from "../mapped.ts";
import { anonymous } from "../session.ts";
import type { Viewer, Session } from "../session.ts";
import { uuidv7 } from "../message/ids.ts";
import type { ReadRequest } from "./api.ts";
import type { Run } from "../run.ts";
import type { Reading, SessionStore, StoreRead } from "../ports/store.ts";

// Access (P11). Two locks: the id of a session must be the viewer's to name, and its record must name the viewer as
// owner. This file is the first; the scripts hold the second.

export const scopes = ["chat:read", "chat:write", "admin"] as const;
type Scope = (typeof scopes)[number];

/** What valid credentials say of their subject. */
interface Claims {
  readonly subject: string;
  readonly scopes: readonly string[];
  /** Patterns of session ids; null: those that begin with "<subject>:". */
  readonly sessions: readonly string[] | null;
  /** Patterns of the names of models; null: all. */
  readonly models: readonly string[] | null;
}

const maxSubjectBytes = 255;
/** Of a history key. */
const maxKeyBytes = 512;
const maxPatterns = 100;
const maxPatternChars = 512;
// Control characters of ASCII and Latin-1, and the two line separators: what would break a log line or a protocol.
// eslint-disable-next-line no-control-regex -- these are what is looked for
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/u;

/** What keeps a text from being a subject, or null. A "*" would be a pattern, and to the scripts the gateway itself. */
export function subjectProblem(subject: string): string | null {
  if (subject === "") return "must not be empty";
  if (Buffer.byteLength(subject) > maxSubjectBytes) return `must have at most ${maxSubjectBytes} bytes`;
  if (!subject.isWellFormed() || control.test(subject)) return "must not hold control characters";
  if (subject.includes("*")) return 'must not hold "*"';
  return null;
}

/**
 * The same where subjects have to sign in. `anonymous` owns all that was made without authentication: a
 * subject of that name would have all of it.
 */
export function signedInProblem(subject: string): string | null {
  return subject === anonymous.subject
    ? `must not be "${subject}", the owner of what was made without authentication`
    : subjectProblem(subject);
}

/** What keeps texts from being patterns, of session ids or of names of models, or null. */
export function patternsProblem(patterns: readonly string[]): string | null {
  if (patterns.length > maxPatterns) return `must be at most ${maxPatterns} patterns`;
  if (patterns.some((pattern) => pattern === "" || pattern.length > maxPatternChars)) {
    return `must be patterns of 1 to ${maxPatternChars} characters`;
  }
  return null;
}

/** @throws {ParleyError} UNAUTHENTICATED: nobody can be called so */
export function viewerOf({ subject, scopes, sessions, models }: Claims): Viewer {
  const problem = signedInProblem(subject) ?? patternsProblem(sessions ?? []) ?? patternsProblem(models ?? []);
  if (problem !== null) throw unauthenticated();
  return { subject, scopes, sessions: sessions ?? [`${subject}:*`], granted: sessions !== null, models };
}

const signInAgain = "These credentials are not valid, or no longer. Sign in again.";

/** The same words for every reason: which part of a credential was wrong is nobody's business. */
export function unauthenticated(options?: ErrorOptions): ParleyError {
  return new ParleyError("UNAUTHENTICATED", signInAgain, {}, options);
}

/** Nothing was shown at all: that, a caller may know. */
export function tokenMissing(): ParleyError {
  const message = 'This needs a token, and none was sent. Send it as the header "Authorization: Bearer …".';
  return new ParleyError("UNAUTHENTICATED", message);
}

/** Credentials that were good until their time was over: the same caller may come again with new ones. */
export class CredentialsExpired extends ParleyError {
  constructor(options?: ErrorOptions) {
    super("UNAUTHENTICATED", signInAgain, {}, options);
  }
}

function hasScope({ scopes }: Viewer, scope: Scope): boolean {
  return scopes.includes(scope) || scopes.includes("admin");
}

/** @throws {ParleyError} FORBIDDEN */
export function requireScope(viewer: Viewer, scope: Scope): void {
  if (hasScope(viewer, scope)) return;
  throw new ParleyError("FORBIDDEN", `This needs the scope ${scope}, which your credentials do not have.`);
}

/**
 * An admin sees another owner's sessions as that owner does.
 * @throws {ParleyError} FORBIDDEN; BAD_USER_INPUT where nobody can be called so
 */
export function actingFor(viewer: Viewer, owner: string): Viewer {
  requireScope(viewer, "admin");
  const problem = subjectProblem(owner);
  if (problem !== null) throw badInput("filter.owner", `The owner ${problem}.`);
  return { subject: owner, scopes: viewer.scopes, sessions: null, granted: false, models: viewer.models };
}

/** Whether the viewer may choose this id for a session, be it there or not. */
export function mayUse({ sessions }: Viewer, sessionId: string): boolean {
  return sessions === null || sessions.some((pattern) => matches(pattern, sessionId));
}

/**
 * Whether a session of this id can be the viewer's at all. Patterns that were granted bound it; without, an admin may
 * have given the viewer a session of any id (`parley adopt`), and the record alone says whose it is.
 */
export function mayReach(viewer: Viewer, sessionId: string): boolean {
  return !viewer.granted || mayUse(viewer, sessionId);
}

/** Whether the viewer may choose this model, which there is. */
export function mayChoose({ models }: Viewer, name: string): boolean {
  return models === null || models.some((pattern) => matches(pattern, name));
}

/** Whether a session's id is one of a pattern. */
export function idMatcher(pattern: string): (sessionId: string) => boolean {
  return (sessionId) => matches(pattern, sessionId);
}

/** A pattern in which each "*" stands for any text. Takes time in proportion to the text, whatever the pattern. */
function matches(pattern: string, text: string): boolean {
  const [head = "", ...parts] = pattern.split("*");
  const tail = parts.pop();
  if (tail === undefined) return text === head;
  if (!text.startsWith(head)) return false;
  let at = head.length;
  for (const part of parts) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length - tail.length >= at && text.endsWith(tail);
}

/**
 * An id for a new session, within the viewer's patterns. With an idempotency key the same one each time: a retry must
 * find the session that the first call made.
 * @throws {ParleyError} BAD_USER_INPUT where the viewer's patterns leave nothing to choose
 */
export function makeSessionId(viewer: Viewer, what: string, idempotencyKey: string | null, now: number): string {
  const uuid = madeUuid(viewer.subject, what, idempotencyKey, now);
  if (viewer.sessions === null) return uuid;
  const pattern = viewer.sessions.find((one) => one.includes("*"));
  if (pattern === undefined) {
    throw badInput("input.sessionId", "Your credentials name the sessions that you may use: give one of these ids.");
  }
  return pattern.replace("*", uuid).replaceAll("*", "");
}

/** @throws {ParleyError} NOT_FOUND, whether there is such a session or not */
export function mustUse(viewer: Viewer, sessionId: string): void {
  if (!mayUse(viewer, sessionId)) throw notFound();
}

/** The changes that are the viewer's to see. Not an async generator: one that is parked could not be ended. */
export function reachableChanges(
  viewer: Viewer,
  changes: AsyncIterableIterator<SessionChange>,
): AsyncIterableIterator<SessionChange> {
  if (!viewer.granted) return changes;
  return mapped(changes, (change) => {
    const sessionId = idOf(change);
    return sessionId === null || mayReach(viewer, sessionId) ? change : null;
  });
}

/** null: of no session. */
function idOf(change: SessionChange): string | null {
  if (change.kind === "opened") return null;
  return change.kind === "removed" ? change.sessionId : change.session.sessionId;
}

/** What is wrong with a session id whose history key this is, or null. The gateway's own keys begin with "parley:". */
export function historyKeyProblem(historyKey: string): string | null {
  if (historyKey === "") return "must not be empty";
  if (Buffer.byteLength(historyKey) > maxKeyBytes) return `must have at most ${maxKeyBytes} bytes`;
  if (!historyKey.isWellFormed()) return "must be well-formed Unicode";
  if (control.test(historyKey)) return "must not hold control characters";
  if (historyKey.startsWith("parley:")) return 'must not begin with "parley:"';
  return null;
}

export function checkSessionId(field: string, prefix: string, sessionId: string): void {
  const problem = sessionId === "" ? "must not be empty" : historyKeyProblem(prefix + sessionId);
  if (problem) throw badInput(field, `${field} ${problem}.`);
}

/** With an idempotency key the same each time. */
function madeUuid(owner: string, what: string, idempotencyKey: string | null, now: number): string {
  if (idempotencyKey === null) return uuidv7(now);
  const hex = createHash("sha256")
    .update(JSON.stringify([owner, what, idempotencyKey]))
    .digest("hex");
  // A UUIDv8 (RFC 9562): bits of the maker's own.
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** The sessions as a viewer finds them: what is another owner's does not exist (P11). */
export class OwnedSessions {
  readonly #store: SessionStore;
  readonly #historyKeyPrefix: string;

  constructor(store: SessionStore, historyKeyPrefix: string) {
    this.#store = store;
    this.#historyKeyPrefix = historyKeyPrefix;
  }

  async mustRead(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session> {
    return (await this.read(viewer, sessionId, read))?.session ?? raise(notFound());
  }

  async readRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run | null> {
    return (await this.read(viewer, sessionId, { pages: [], runId }))?.run ?? null;
  }

  async mustReadRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run> {
    return (await this.readRun(viewer, sessionId, runId)) ?? raise(notFound("run"));
  }

  /** null: no such session of the viewer's, or it is as `request.known`. */
  async read(viewer: Viewer, sessionId: string, request: StoreRead): Promise<Reading | null> {
    if (!this.canExist(viewer, sessionId)) return null;
    const read = () => this.#store.read(viewer.subject, sessionId, request);
    const reading = await read();
    if (reading !== null || request.known?.isSame === true) return reading;
    return (await this.#claims(viewer, sessionId)) ? await read() : null;
  }

  /**
   * Does what is NOT_FOUND for a history of foreign code once more when the viewer's credentials bring that along; does
   * `otherwise`, where it is given, when they do not.
   */
  async owning<T>(viewer: Viewer, sessionId: string, act: () => Promise<T>, otherwise?: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof ParleyError) || error.code !== "NOT_FOUND") throw error;
      if (await this.#claims(viewer, sessionId)) return await act();
      if (otherwise) return await otherwise();
      throw error;
    }
  }

  /** Whether a history that was nobody's is the viewer's from now on. */
  async #claims(viewer: Viewer, sessionId: string): Promise<boolean> {
    return viewer.granted && (await this.#store.claim(viewer.subject, sessionId));
  }

  /** An id that no session can have, or none of the viewer's, is answered as one that none has. */
  canExist(viewer: Viewer, sessionId: string): boolean {
    if (sessionId === "" || !mayReach(viewer, sessionId)) return false;
    return historyKeyProblem(this.#historyKeyPrefix + sessionId) === null;
  }

  mustExist(viewer: Viewer, sessionId: string): void {
    if (!this.canExist(viewer, sessionId)) throw notFound();
  }
}

function raise(error: Error): never {
  throw error;
}
