import type { Store } from "parley-client";
import { onScopeDispose, shallowRef } from "vue";
import type { ShallowRef } from "vue";

/** A store of parley-client as a ref. A snapshot is a new object whenever something of it changed: shallow is enough. */
export function useStore<T>(store: Store<T>): Readonly<ShallowRef<T>> {
  const snapshot = shallowRef(store.getSnapshot());
  onScopeDispose(store.subscribe(() => (snapshot.value = store.getSnapshot())));
  return snapshot;
}
