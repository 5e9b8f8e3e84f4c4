import { useLayoutEffect, useReducer } from "preact/hooks";

import type { Store } from "../../client/src/client.ts";

/** The store's snapshot; the component renders again at each new one. */
export function useStore<T>({ subscribe, getSnapshot }: Pick<Store<T>, "subscribe" | "getSnapshot">): T {
  const [, again] = useReducer((count: number) => count + 1, 0);
  const snapshot = getSnapshot();
  useLayoutEffect(() => {
    const end = subscribe(() => again(undefined));
    // It may have changed since it was rendered.
    if (getSnapshot() !== snapshot) again(undefined);
    return end;
  }, [subscribe]);
  return snapshot;
}
