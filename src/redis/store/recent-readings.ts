import { LRUCache } from "lru-cache";

import { keepWith } from "../../conversation/recurring.ts";
import type { Reading } from "../../conversation/ports/store.ts";
import type { Reply } from "../scripts/contracts.ts";

type Answer = Readonly<Record<string, Reply | undefined>>;

interface Kept {
  readonly reply: Answer;
  readonly reading: Reading;
  /** Characters. */
  readonly length: number;
}

/**
 * What came of readings that are made again and again, as a page of a chat that is polled, or fetched anew whenever its tab
 * is looked at. Redis is asked each time; where it answers as it did, that is the same reading, and what was made of it (the
 * marks of its rows, an answer's text) serves again. A reading is kept from its second time on, so that what is read
 * once costs nothing more than a note of it.
 */
export class RecentReadings {
  readonly #kept: LRUCache<string, Kept>;
  readonly #asked = new LRUCache<string, true>({ max: 4096 });

  /** `maxBytes`: of memory, as estimated. */
  constructor(maxBytes: number) {
    this.#kept = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes / 8,
      sizeCalculation: ({ length }) => 1024 + bytesPerCharacter * (length + roomBeside(length)),
    });
  }

  /** `asked`: all that the reading depends on. `make`: reads the reply. */
  of(asked: string, reply: Answer, make: () => Reading): Reading {
    const kept = this.#kept.get(asked);
    if (kept !== undefined && isSameAnswer(kept.reply, reply)) return kept.reading;
    const recurs = kept !== undefined || this.#asked.get(asked) === true;
    const reading = make();
    if (recurs) {
      const length = Object.values(reply).reduce<number>((sum, item) => sum + lengthOf(item), 0);
      keepWith(reading.session, roomBeside(length));
      this.#kept.set(asked, { reply, reading, length });
    } else this.#asked.set(asked, true);
    return reading;
  }
}

/** Where not all are Latin. */
const bytesPerCharacter = 2;

/** Room for one answer with all that a reply says, and for a few with less. */
function roomBeside(length: number): number {
  return 2048 + 2 * length;
}

/** What time it was differs each time, and is part of no reading. */
function isSameAnswer(one: Answer, other: Answer): boolean {
  return Object.keys(one).every((name) => name === "now" || isSame(one[name], other[name]));
}

function isSame(one: Reply | undefined, other: Reply | undefined): boolean {
  if (typeof one !== "object" || one === null) return one === other;
  if (typeof other !== "object" || other === null || one.length !== other.length) return false;
  return one.every((item, i) => isSame(item, other[i]));
}

function lengthOf(reply: Reply | undefined): number {
  if (typeof reply === "string") return reply.length;
  return typeof reply === "object" && reply !== null ? reply.reduce<number>((sum, item) => sum + lengthOf(item), 0) : 8;
}
