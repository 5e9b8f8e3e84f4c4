/** How long a server may take to end a stream that has been read to its last record, in ms. */
const lingerMs = 1000;

/** The text of a response's body, piece by piece. */
export class BodyText {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  /** Takes a BOM away, and keeps a character together whose bytes come apart. */
  readonly #decoder = new TextDecoder();
  /** A read that was not waited for to its end. */
  #reading: Promise<ReadableStreamReadResult<Uint8Array>> | null = null;
  #ahead = "";
  #ended = false;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader();
  }

  /** The first character that is no white space; "" where there is none. It stays unread. */
  async firstCharacter(): Promise<string> {
    let ahead = "";
    for (;;) {
      const first = /\S/.exec(ahead);
      if (first !== null) {
        this.#ahead = ahead;
        return first[0];
      }
      const more = await this.next();
      if (more === null) return "";
      ahead += more;
    }
  }

  /** null: it has ended. "" also where nothing came within `waitMs`. */
  async next(waitMs: number | null = null): Promise<string | null> {
    if (this.#ahead !== "") {
      const ahead = this.#ahead;
      this.#ahead = "";
      return ahead;
    }
    if (this.#ended) return null;
    this.#reading ??= this.#reader.read();
    const read = await (waitMs === null ? this.#reading : within(this.#reading, waitMs));
    if (read === null) return "";
    this.#reading = null;
    if (read.done) {
      this.#ended = true;
      return this.#decoder.decode() || null;
    }
    return this.#decoder.decode(read.value, { stream: true });
  }

  /** All that is left, or its first `maxChars`. */
  async rest(maxChars: number): Promise<string> {
    const parts: string[] = [];
    let length = 0;
    while (length <= maxChars) {
      const part = await this.next();
      if (part === null) break;
      parts.push(part);
      length += part.length;
    }
    if (length > maxChars) this.leave();
    return parts.join("");
  }

  /**
   * Nothing more of it is wanted. What is left is read all the same, since where the end of a body is not there yet, Node
   * closes the connection, and the next reply begins with a TCP and TLS handshake (openai-python has the same,
   * openai/openai-python#3580). To stop the stream abort its signal: that closes the connection.
   */
  leave(): void {
    if (!this.#ended) void this.#readRest();
  }

  async #readRest(): Promise<void> {
    const limit = setTimeout(() => void this.#reader.cancel().catch(() => undefined), lingerMs).unref();
    try {
      await this.#reading;
      while (!(await this.#reader.read()).done);
    } catch {
      // Aborted, or cut off: there is no connection left to keep.
    } finally {
      clearTimeout(limit);
    }
  }
}

async function within<T>(work: Promise<T>, waitMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), waitMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
