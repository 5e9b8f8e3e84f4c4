/**
 * An iterator of what `map` makes of another's values; null: the value is passed by. Where `map` throws, the other one is
 * ended. Not an async generator: it would queue return() behind a next() that waits for a value, and so leak at each
 * disconnect.
 */
export function mapped<In, Out extends object>(
  source: AsyncIterator<In, unknown>,
  map: (value: In) => Out | null,
): AsyncIterableIterator<Out> {
  const iterator: AsyncIterableIterator<Out> = {
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      for (;;) {
        const result = await source.next();
        if (result.done === true) return { done: true, value: undefined };
        try {
          const value = map(result.value);
          if (value !== null) return { done: false, value };
        } catch (error) {
          await source.return?.();
          throw error;
        }
      }
    },
    async return() {
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
  return iterator;
}
