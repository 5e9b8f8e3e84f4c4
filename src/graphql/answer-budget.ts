import type { ParleyError } from "../conversation/errors.ts";
import type { Row } from "../conversation/message/message.ts";
import { tooComplex } from "./limits.ts";

/**
 * How much one answer may hold: of a query, a mutation, or one event of a subscription. limits-cost.ts bounds how many
 * values there are before they are read; how large they are is known only then. Both are counted where a value is given:
 * a page under twenty aliases is read once, but parsed and written twenty times.
 */
export class AnswerBudget {
  readonly #most: number;
  readonly #onExceeded: () => void;
  #read = 0;
  #made = 0;
  #exceeded = false;

  /** `onExceeded`: called once. */
  constructor(mostBytes: number, onExceeded: () => void) {
    this.#most = mostBytes;
    this.#onExceeded = onExceeded;
  }

  get most(): number {
    return this.#most;
  }

  /** As much again, for another event of the operation. */
  anew(): AnswerBudget {
    return new AnswerBudget(this.#most, this.#onExceeded);
  }

  /**
   * Of a page, before any of its rows is parsed.
   * @throws {ParleyError} TOO_COMPLEX
   */
  read(rows: readonly Row[]): void {
    for (const { raw } of rows) this.#read += textBytes(raw);
    if (this.#read > this.#most) this.#refuse();
  }

  /**
   * A page is read by itself whose rows hold about so many bytes: they count until it is here, so that others are not read
   * beside it for nothing.
   * @throws {ParleyError} TOO_COMPLEX
   */
  async expect<Page>(bytes: number, read: () => Promise<Page>): Promise<Page> {
    this.#read += bytes;
    if (this.#read > this.#most) this.#refuse();
    try {
      return await read();
    } finally {
      this.#read -= bytes;
    }
  }

  /** TOO_COMPLEX, or null: there is room for it. So do the others that count values. */
  text(text: string): ParleyError | null {
    return this.#make(textBytes(text));
  }

  json(value: unknown): ParleyError | null {
    return this.#make(jsonBytes(value));
  }

  /**
   * The items' brackets and names: rows may hold long lists of empty things. Promises, which are of as many ids as were
   * given, count for nothing: nobody would be there for those that fail.
   */
  list(items: readonly unknown[]): ParleyError | null {
    return items[0] instanceof Promise ? null : this.#make(items.length * itemBytes);
  }

  /** Once the answer is too large: nothing more is made of it. */
  get refusal(): ParleyError | null {
    return this.#made > this.#most ? this.#refusal() : null;
  }

  #make(bytes: number): ParleyError | null {
    this.#made += bytes;
    if (this.#made <= this.#most) return null;
    this.#tell();
    return this.#refusal();
  }

  #refuse(): never {
    this.#tell();
    throw this.#refusal();
  }

  #tell(): void {
    if (!this.#exceeded) this.#onExceeded();
    this.#exceeded = true;
  }

  #refusal(): ParleyError {
    const message = `The answer would hold more than ${this.#most} bytes. Ask for fewer messages or fields at a time.`;
    return tooComplex("answerBytes", message);
  }
}

const itemBytes = 64;
/** Of shorter ones the characters are taken for bytes, which costs nothing: they have three times as many at most. */
const shortText = 1024;

function textBytes(text: string): number {
  return text.length < shortText ? text.length : Buffer.byteLength(text);
}

/** About, and never more than its JSON. Not recursive: it may be nested as deep as JSON.parse takes it. */
function jsonBytes(value: unknown): number {
  let bytes = 0;
  const left: unknown[] = [value];
  while (left.length > 0) {
    const one = left.pop();
    bytes += 1;
    if (typeof one === "string") bytes += textBytes(one);
    else if (Array.isArray(one)) for (const item of one) left.push(item);
    else if (typeof one === "object" && one !== null) {
      for (const [key, item] of Object.entries(one)) {
        bytes += textBytes(key);
        left.push(item);
      }
    }
  }
  return bytes;
}
