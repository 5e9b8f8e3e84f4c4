/** How long a server may take to end a stream that its reader has left, in ms. */
const lingerMs = 1000;

/**
 * `fetch` for OpenAI's client, which leaves a stream at `data: [DONE]` and cancels its body: where the end of that body is not
 * there yet, Node closes the connection, and the next reply begins with a TCP and TLS handshake (openai-python has the
 * same, openai/openai-python#3580). Here what is left of the body is read, so that the connection is used again. Who
 * wants the stream to stop aborts its signal, and that closes the connection as ever.
 */
export const fetchReusing: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const { body, headers } = response;
  if (body === null || headers.get("content-type")?.startsWith("text/event-stream") !== true) return response;
  const reader = body.getReader();
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel() {
        void readRest(reader);
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(stream, response);
};

async function readRest(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  const limit = setTimeout(() => void reader.cancel().catch(() => undefined), lingerMs).unref();
  try {
    while (!(await reader.read()).done);
  } catch {
    // Aborted, or cut off: there is no connection left to keep.
  } finally {
    clearTimeout(limit);
  }
}
