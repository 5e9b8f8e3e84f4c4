/** How a stream of results is written: SSE and multipart differ in this alone. */
export interface Framing {
  /** What comes first, so that headers and a first byte reach the client before there is a result. */
  readonly opening: string;
  /** Keeps proxies from closing a quiet stream; null: none. */
  readonly keepAlive: { readonly comment: string; readonly everyMs: number } | null;
  /** Called right after the result was pulled, before the next one is. */
  result(result: unknown): string;
  /** Written when the results have come to their end; a stream that is cut off lacks it. */
  readonly closing: string;
}

/**
 * A body that pulls one result when its reader asks for one, and holds none ahead (P10).
 *
 *     reading ──(results end)──▶ closing text ──▶ done
 *        └─(signal, or the reader cancels)──▶ results.return() at once, also under a pending next() ──▶ done
 */
export function streamBody(
  results: AsyncIterator<unknown, unknown>,
  framing: Framing,
  signal: AbortSignal,
  onDone: () => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let done = false;
  let timer: NodeJS.Timeout | null = null;
  let onAbort: (() => void) | null = null;

  function finish(): void {
    done = true;
    if (timer !== null) clearInterval(timer);
    if (onAbort !== null) signal.removeEventListener("abort", onAbort);
    onDone();
  }

  function abandon(): void {
    if (done) return;
    finish();
    // Not awaited: a source may settle only when what it waits for does.
    results.return?.().catch(() => undefined);
  }

  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(encoder.encode(framing.opening));
        const { keepAlive } = framing;
        if (keepAlive !== null) {
          const comment = encoder.encode(keepAlive.comment);
          timer = setInterval(() => {
            // Below zero something waits to be read already: a reader that lags gets no pile of comments.
            if ((controller.desiredSize ?? -1) >= 0) controller.enqueue(comment);
          }, keepAlive.everyMs).unref();
        }
        onAbort = () => {
          if (done) return;
          abandon();
          controller.close();
        };
        signal.addEventListener("abort", onAbort, { once: true });
        if (signal.aborted) onAbort();
      },
      async pull(controller) {
        try {
          const { value, done: ended } = await results.next();
          // The signal's listener closed the stream meanwhile; the analyser cannot see that.
          if (done) return;
          if (ended !== true) {
            controller.enqueue(encoder.encode(framing.result(value)));
            return;
          }
          finish();
          controller.enqueue(encoder.encode(framing.closing));
          controller.close();
        } catch (error) {
          if (done) return;
          abandon();
          controller.error(error);
        }
      },
      cancel: abandon,
    },
    { highWaterMark: 0 },
  );
}

/** Whether the response goes on after its headers. */
export function isStream(response: Response): boolean {
  return /^(text\/event-stream|multipart\/mixed)/.test(response.headers.get("content-type") ?? "");
}

/** For what is answered as a stream although it is one result. */
export async function* once<Value>(value: Value): AsyncGenerator<Value, void> {
  yield await Promise.resolve(value);
}
