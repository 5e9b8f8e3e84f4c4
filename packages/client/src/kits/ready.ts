import type { SessionStore } from "../session.ts";

/** Resolves once the newest messages are known, or that there is no such session yet. @throws the error of a stream that is closed for good. */
export function ready(store: SessionStore, signal?: AbortSignal): Promise<void> {
  return new Promise((done, fail) => {
    const end = (how: () => void) => {
      leave();
      signal?.removeEventListener("abort", look);
      how();
    };
    const look = () => {
      const { connection, error } = store.getSnapshot();
      if (signal?.aborted === true) end(() => fail(new DOMException("It was aborted.", "AbortError")));
      else if (connection === "closed") end(() => fail(error ?? new Error("The stream has ended.")));
      else if (connection === "live" || connection === "new" || connection === "removed") end(done);
    };
    const leave = store.subscribe(look);
    signal?.addEventListener("abort", look);
    look();
  });
}
