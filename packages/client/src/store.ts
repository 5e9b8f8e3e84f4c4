/** An external store, as React's useSyncExternalStore takes it; Svelte, Vue and signals take it as well. */
export interface Store<T> {
  readonly subscribe: (listener: () => void) => () => void;
  readonly getSnapshot: () => T;
  /** As it was at first: what a server renders, and what the page that takes it over begins with. */
  readonly getServerSnapshot: () => T;
}

/**
 * idle: nobody subscribes · connecting: at first · live · offline: the connection is lost, and tried again · new: there is no
 * such session yet, the first message starts it · removed: it was deleted or has expired · closed: for good, see `error`.
 */
export type Connection = "idle" | "connecting" | "live" | "offline" | "new" | "removed" | "closed";

export interface OwnStore<T> extends Store<T> {
  readonly set: (snapshot: T) => void;
  /** Whether anybody subscribes, or has until a moment ago. */
  readonly inUse: () => boolean;
  readonly close: () => void;
}

/** After the last listener has left it stays open for this long: React's StrictMode, and a switch to and fro, cost nothing. */
const lingerMs = 1000;

/** `open` is called at the first listener, and at each one after it has closed by itself; `close` after the last. */
export function createStore<T>(first: T, open: () => void, close: () => void): OwnStore<T> {
  const listeners = new Set<() => void>();
  let snapshot = first;
  let lingering: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    clearTimeout(lingering);
    lingering = undefined;
    close();
  };
  return {
    subscribe(listener) {
      // Somebody may subscribe the same function twice.
      const own = () => listener();
      listeners.add(own);
      clearTimeout(lingering);
      lingering = undefined;
      open();
      return () => {
        // Called twice, it must not start another timer, which would close what others have opened since.
        if (listeners.delete(own) && listeners.size === 0) lingering = setTimeout(end, lingerMs);
      };
    },
    getSnapshot: () => snapshot,
    getServerSnapshot: () => first,
    set(next) {
      snapshot = next;
      for (const listener of [...listeners]) listener();
    },
    inUse: () => listeners.size > 0 || lingering !== undefined,
    close: end,
  };
}
