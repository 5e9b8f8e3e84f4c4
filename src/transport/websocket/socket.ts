import type { Duplex } from "node:stream";
import { CloseCode } from "graphql-ws";
import { WebSocket } from "ws";
import type { RawData } from "ws";
import type { KeepAlive } from "./keep-alive.ts";
import { Pace, type Pausable } from "../guard/pace.ts";
import type { Frame } from "../../operations/live/outcome.ts";
import { SocketClosing } from "../../operations/live/socket-closing.ts";
import type { Sink, Writer } from "../../operations/live/results.ts";
import { StallWatch } from "./stall.ts";

/** The same for all sockets of an endpoint. */
interface SocketOptions {
  readonly keepAlive: KeepAlive;
  readonly slowReaderMs: number;
  /** Messages, pings and pongs: more than that are left in the network for a while. */
  readonly messagesPerSecond: number;
  /** They were more than that. */
  readonly onPaced: () => void;
  /** A handler threw: the socket is closed with 4500. */
  readonly onFailure: (error: unknown) => void;
}

/** Beyond it nothing more is read: a client that asks and asks without reading answers must not fill the memory. */
const maxUnreadBytes = 1024 * 1024;

const nothing = Buffer.alloc(0);

/** resume() itself knows what else keeps a socket from being read. */
const always = (): boolean => true;

/** A ping without a text, as one whole frame. */
const pingFrame = Buffer.from([0x89, 0]);

/**
 * A socket of `ws` that knows its wire. Its listeners are the same functions for all sockets, one for each event: of what
 * an idle subscriber takes, closures and lists of them would be a large part.
 */
export class ClientSocket extends WebSocket {
  wire: Wire | null = null;
}

function onMessage(this: WebSocket, data: RawData): void {
  // `ws` hands over one Buffer unless told otherwise, whatever its type allows.
  wireOf(this)?.received(data as Buffer);
}

function onPing(this: WebSocket): void {
  wireOf(this)?.pinged();
}

function onPong(this: WebSocket): void {
  wireOf(this)?.answered();
}

function onClose(this: WebSocket, code: number, reason: Buffer): void {
  wireOf(this)?.closed(code, reason);
}

function onError(): void {
  // `ws` closes by itself, with the fitting code; `close` follows.
}

function wireOf(socket: WebSocket): Wire | null {
  return socket instanceof ClientSocket ? socket.wire : null;
}

/** A WebSocket as graphql-ws wants one: sending waits for the reader, and a dead or stalled reader is cut off (P10). */
export class Wire implements Pausable {
  /** What was received, as text. Set before the first message can come. */
  onMessage: ((data: string) => Promise<void>) | null = null;
  /** Called once. */
  onClose: ((code: number, reason: string) => void) | null = null;
  readonly #socket: ClientSocket;
  readonly #stream: Duplex;
  readonly #options: SocketOptions;
  readonly #pace: Pace;
  /** Its place in the round of pings. */
  readonly #slot: number;
  /** Made when something waits for the first time: most sockets take all at once. */
  #stall: StallWatch | null = null;
  #ping: "answered" | "queued" | "sent" = "answered";

  /** `stream`: what the socket writes to. */
  constructor(socket: ClientSocket, stream: Duplex, options: SocketOptions) {
    this.#socket = socket;
    this.#stream = stream;
    this.#options = options;
    this.#pace = new Pace(this, options.messagesPerSecond, options.onPaced, always);
    socket.wire = this;
    socket.on("message", onMessage);
    socket.on("ping", onPing);
    socket.on("pong", onPong);
    socket.on("error", onError);
    socket.on("close", onClose);
    this.#slot = options.keepAlive.add(this);
  }

  /** Settles when the message was written to the network; rejects once the socket is closing. */
  send(data: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = this.#socket;
      // Rejecting makes graphql-ws leave its loop and return the source; resolving would drain it into nothing.
      if (socket.readyState !== socket.OPEN) {
        reject(new SocketClosing());
        return;
      }
      let waits = false;
      socket.send(data, (error) => {
        if (waits) this.#taken();
        if (error == null) resolve();
        else reject(error);
      });
      // What the network took at once has its callback later all the same.
      if (this.#stream.writableLength > 0) {
        waits = true;
        this.#waiting();
      }
      if (!this.#reads) socket.pause();
    });
  }

  /**
   * Writes a whole frame beside `ws`, which keeps nothing from one frame to the next while it does not compress. Nothing
   * is made for the one delivery where the network takes it at once.
   */
  write(frame: Frame, writer: Writer): ReturnType<Sink["write"]> {
    const stream = this.#stream;
    const { rest } = frame;
    if (this.#socket.readyState !== WebSocket.OPEN) return "closed";
    if (rest === null) stream.write(frame.head);
    else {
      stream.cork();
      stream.write(frame.head);
      stream.write(rest);
      stream.uncork();
    }
    if (stream.writableLength === 0) return "taken";
    frame.held = true;
    this.#waiting();
    // Written when all before it is.
    stream.write(nothing, () => {
      this.#taken();
      writer.go();
    });
    return "waits";
  }

  close(code?: number, reason?: string): void {
    const long = reason !== undefined && Buffer.byteLength(reason) > 123;
    this.#socket.close(code, long ? `${reason.slice(0, 30)}…` : reason);
  }

  /**
   * Pings, and cuts off who doesn't answer one before the next is due. A ping that still waits behind data is not counted.
   */
  keepAlive(): void {
    const socket = this.#socket;
    if (this.#ping === "queued" || socket.readyState !== socket.OPEN) return;
    // Its answer is not read now: who sent too much is slowed down, not taken for dead.
    if (this.#pace.holds) {
      this.answered();
      return;
    }
    if (this.#ping === "sent") {
      socket.terminate();
      return;
    }
    this.#stream.write(pingFrame);
    if (this.#stream.writableLength === 0) {
      this.#ping = "sent";
      return;
    }
    this.#ping = "queued";
    this.#stream.write(nothing, () => {
      if (this.#ping === "queued") this.#ping = "sent";
    });
  }

  pause(): void {
    this.#socket.pause();
  }

  /** Unless too much waits for its reader. */
  resume(): void {
    if (this.#reads) this.#socket.resume();
  }

  received(data: Buffer): void {
    this.#pace.count();
    this.answered();
    this.onMessage?.(data.toString("utf8")).catch((error: unknown) => {
      if (this.#socket.readyState !== this.#socket.OPEN) return;
      this.#options.onFailure(error);
      this.close(CloseCode.InternalServerError, "Internal server error");
    });
  }

  pinged(): void {
    this.#pace.count();
  }

  answered(): void {
    this.#ping = "answered";
  }

  closed(code: number, reason: Buffer): void {
    this.#stall?.stop();
    this.#pace.stop();
    this.#options.keepAlive.delete(this, this.#slot);
    this.onClose?.(code, reason.toString());
    this.onClose = null;
  }

  get #reads(): boolean {
    return this.#socket.bufferedAmount <= maxUnreadBytes;
  }

  #waiting(): void {
    this.#stall ??= new StallWatch(this.#options.slowReaderMs, () => this.#socket.terminate());
    this.#stall.waiting();
  }

  #taken(): void {
    this.#stall?.taken();
    if (this.#socket.isPaused && !this.#pace.holds) this.resume();
  }
}
