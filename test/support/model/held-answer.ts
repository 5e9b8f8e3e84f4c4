import { vi } from "vitest";

/** Keeps the answer of the next fetch() whose body holds `text` on its way until it is let go. */
export function holdAnswer(text: string): () => void {
  const { promise: held, resolve: letGo } = Promise.withResolvers<undefined>();
  const send = globalThis.fetch;
  const spy = vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const response = await send(input, init);
    if (typeof init?.body === "string" && init.body.includes(text)) {
      spy.mockRestore();
      await held;
    }
    return response;
  });
  return () => letGo(undefined);
}
