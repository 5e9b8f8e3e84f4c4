/**
 * Operations of a socket that their client has completed, and of which something may still come. graphql-ws knows an
 * operation by its id alone: what came of a completed one would go out as the next one's that has its id. So that waits.
 */
export class EndingOperations {
  readonly #endings = new Map<string, { next: (() => void) | null }>();

  /** `done`: settles when nothing comes of it any more. */
  add(id: string, done: Promise<unknown>): void {
    const ending: { next: (() => void) | null } = { next: null };
    this.#endings.set(id, ending);
    const end = () => {
      this.#endings.delete(id);
      ending.next?.();
    };
    done.then(end, end);
  }

  /** "free": no operation of this id is ending. "waits": `begin` is called when it has ended. "taken": another one waits. */
  follow(id: string, begin: () => void): "free" | "waits" | "taken" {
    const ending = this.#endings.get(id);
    if (ending === undefined) return "free";
    if (ending.next !== null) return "taken";
    ending.next = begin;
    return "waits";
  }

  /** Drops what waits under this id. Whether anything did. */
  drop(id: string): boolean {
    const ending = this.#endings.get(id);
    if (ending === undefined || ending.next === null) return false;
    ending.next = null;
    return true;
  }
}
