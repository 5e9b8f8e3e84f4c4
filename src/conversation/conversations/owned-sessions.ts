import { mayReach } from "./access.ts";
import type { ReadRequest } from "./api.ts";
import { notFound, ParleyError } from "../errors.ts";
import type { Run } from "../run.ts";
import { historyKeyProblem } from "../session-id.ts";
import type { Session, Viewer } from "../session.ts";
import type { Reading, SessionStore, StoreRead } from "../ports/store.ts";

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

  /** null: no such session of the viewer's. */
  async read(viewer: Viewer, sessionId: string, request: StoreRead): Promise<Reading | null> {
    if (!this.canExist(viewer, sessionId)) return null;
    const read = () => this.#store.read(viewer.subject, sessionId, request);
    const reading = await read();
    return reading === null && (await this.#claims(viewer, sessionId)) ? await read() : reading;
  }

  /** "same": it would be as the one that had this Session.state. */
  async readUnless(
    viewer: Viewer,
    sessionId: string,
    read: ReadRequest,
    state: string,
  ): Promise<Session | "same" | null> {
    if (!this.canExist(viewer, sessionId)) return null;
    const reading = await this.#store.readUnless(viewer.subject, sessionId, read, state);
    return reading === "same" ? reading : (reading?.session ?? null);
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
