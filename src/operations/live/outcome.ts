import type { ExecutionResult } from "graphql";

import type { SessionEvent } from "../../conversation/events.ts";
import { resumesFrom } from "../../graphql/reading/live.ts";
import type { MaskError } from "../masking.ts";
import { formatResult, WrittenResult } from "../results.ts";

/** Above it a frame's parts are written one after the other instead of being copied together. */
const copiedBytes = 16 * 1024;

/** A WebSocket frame as it goes over the wire. `rest`: what follows `head`, the same for all sockets. */
export interface Frame {
  readonly head: Buffer;
  readonly rest: Buffer | null;
  /** Set by who keeps it beyond the call that it was given to: from then on it must not change. */
  held: boolean;
}

interface OwnFrame extends Frame {
  opening: string;
  readonly openingAt: number;
  readonly openingBytes: number;
}

/** What one execution gave, for all subscribers that share it: made ready for the wire once. */
export class Outcome implements ExecutionResult {
  readonly errors?: NonNullable<ExecutionResult["errors"]>;
  readonly extensions?: NonNullable<ExecutionResult["extensions"]>;
  readonly #result: ExecutionResult;
  readonly #mask: MaskError;
  readonly #event: SessionEvent | null;
  /** undefined: nobody has asked for it. */
  #cursor: string | null | undefined = undefined;
  #json: string | null = null;
  #rest: Buffer | null = null;
  #frame: OwnFrame | null = null;

  /** `event`: what was executed; null: nothing that a client resumes from. */
  constructor(result: ExecutionResult, mask: MaskError, event: SessionEvent | null) {
    const { errors, extensions } = result;
    if (errors !== undefined) this.errors = errors;
    if (extensions !== undefined) this.extensions = extensions;
    this.#result = result;
    this.#mask = mask;
    this.#event = event;
  }

  get data(): NonNullable<ExecutionResult["data"]> | null {
    return this.#result.data ?? null;
  }

  /** What a client resumes from behind it; null: from the one before it. */
  get cursor(): string | null {
    if (this.#cursor === undefined) this.#cursor = this.#event && resumesFrom(this.#event);
    return this.#cursor;
  }

  /** As clients see it. */
  get json(): string {
    if (this.#json !== null) return this.#json;
    if (this.#result instanceof WrittenResult) return (this.#json = this.#result.json);
    const { data, errors, extensions } = this.#result;
    const masked = errors?.map(this.#mask);
    return (this.#json = JSON.stringify(formatResult({ data, errors: masked, extensions }, this.#mask)));
  }

  /**
   * The `next` message of an operation as one text frame (RFC 6455, 5.2), good until the next call unless it is held.
   * `opening`: what nextMessage() gives. Clients count their operations or give them ids of one length, and the network
   * mostly takes a frame at once: then the next socket gets the same bytes with its own id written over the last one's.
   */
  frame(opening: string): Frame {
    const last = this.#frame;
    if (last?.opening === opening) return last;
    const openingBytes = Buffer.byteLength(opening);
    if (last !== null && !last.held && last.openingBytes === openingBytes) {
      last.head.write(opening, last.openingAt);
      last.opening = opening;
      return last;
    }
    return (this.#frame = this.#newFrame(opening, openingBytes));
  }

  #newFrame(opening: string, openingBytes: number): OwnFrame {
    const { json } = this;
    const restBytes = Buffer.byteLength(json) + 1;
    const length = openingBytes + restBytes;
    const openingAt = length < 126 ? 2 : length < 65_536 ? 4 : 10;
    const copied = restBytes <= copiedBytes;
    const head = Buffer.allocUnsafe(openingAt + (copied ? length : openingBytes));
    head[0] = 0x81; // the only frame of a text message
    if (openingAt === 2) head[1] = length;
    else if (openingAt === 4) {
      head[1] = 126;
      head.writeUInt16BE(length, 2);
    } else {
      head[1] = 127;
      head.writeBigUInt64BE(BigInt(length), 2);
    }
    head.write(copied ? `${opening}${json}}` : opening, openingAt);
    const rest = copied ? null : (this.#rest ??= Buffer.from(`${json}}`));
    return { opening, openingAt, openingBytes, head, rest, held: false };
  }
}

/** How each `next` message of this operation begins; its result and a brace follow. */
export function nextMessage(operationId: string): string {
  return `{"id":${JSON.stringify(operationId)},"type":"next","payload":`;
}
