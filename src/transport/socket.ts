import type { Duplex } from "node:stream";

import { CloseCode } from "graphql-ws";
import type { WebSocket } from "ws";

import { paceOf } from "./limits/pace.ts";
import type { Frame } from "./outcome.ts";
import type { Sink } from "./shared-results.ts";
import { SocketClosing } from "./socket-closing.ts";
import { watchStall } from "./stall.ts";

export interface SocketOptions {
  readonly keepAliveMs: number;
  readonly slowReaderMs: number;
  /** Messages, pings and pongs: more than that are left in the network for a while. */
  readonly messagesPerSecond: number;
  /** They were more than that. */
  readonly onPaced: () => void;
  /** A handler threw: the socket is closed with 4500. */
  readonly onFailure: (error: unknown) => void;
}

/** A WebSocket as graphql-ws wants one: sending waits for the reader, and a dead or stalled reader is cut off (P10). */
export interface Wire {
  /** Settles when the message was written to the network; rejects once the socket is closing. */
  send(data: string): Promise<void>;
  /**
   * Writes a whole frame beside `ws`, which keeps nothing from one frame to the next while it does not compress. Nothing
   * is made for the one delivery where the network takes it at once.
   */
  readonly write: (frame: Frame, go: () => void) => ReturnType<Sink["write"]>;
  readonly close: (code?: number, reason?: string) => void;
  onMessage(handle: (data: string) => Promise<void>): void;
}

/** Beyond it nothing more is read: a client that asks and asks without reading answers must not fill the memory. */
const maxUnreadBytes = 1024 * 1024;

const nothing = Buffer.alloc(0);

/** `stream`: what the socket writes to. */
export function openSocket(socket: WebSocket, stream: Duplex, options: SocketOptions): Wire {
  const { keepAliveMs, slowReaderMs, messagesPerSecond, onPaced, onFailure } = options;
  const reads = () => socket.bufferedAmount <= maxUnreadBytes;
  const pace = paceOf(socket, messagesPerSecond, onPaced, reads);
  for (const event of ["message", "ping", "pong"]) socket.on(event, () => pace.count());
  const watch = watchStall(slowReaderMs, () => socket.terminate());
  const stopPings = keepAlive(socket, keepAliveMs);
  socket.on("error", () => undefined); // `ws` closes by itself, with the fitting code; `close` follows
  socket.once("close", () => {
    watch.stop();
    pace.stop();
    stopPings();
  });

  function written(): void {
    watch.taken();
    if (socket.isPaused && !pace.holds && reads()) socket.resume();
  }

  function close(code?: number, reason?: string): void {
    socket.close(code, reason !== undefined && Buffer.byteLength(reason) > 123 ? `${reason.slice(0, 30)}…` : reason);
  }

  return {
    send: (data) =>
      new Promise((resolve, reject) => {
        // Rejecting makes graphql-ws leave its loop and return the source; resolving would drain it into nothing.
        if (socket.readyState !== socket.OPEN) {
          reject(new SocketClosing());
          return;
        }
        watch.waiting();
        socket.send(data, (error) => {
          written();
          if (error == null) resolve();
          else reject(error);
        });
        if (!reads()) socket.pause();
      }),
    write(frame, go) {
      const { head, rest } = frame;
      if (socket.readyState !== socket.OPEN) return "closed";
      if (rest === null) stream.write(head);
      else {
        stream.cork();
        stream.write(head);
        stream.write(rest);
        stream.uncork();
      }
      if (stream.writableLength === 0) return "taken";
      frame.held = true;
      watch.waiting();
      // Written when all before it is.
      stream.write(nothing, () => {
        written();
        go();
      });
      return "waits";
    },
    close,
    onMessage(handle) {
      socket.on("message", (data) => {
        // `ws` hands over one Buffer unless told otherwise, whatever its type allows.
        handle((data as Buffer).toString("utf8")).catch((error: unknown) => {
          if (socket.readyState !== socket.OPEN) return;
          onFailure(error);
          close(CloseCode.InternalServerError, "Internal server error");
        });
      });
    },
  };
}

/** Pings, and cuts off who doesn't answer one before the next is due. A ping that still waits behind data is not counted. */
function keepAlive(socket: WebSocket, everyMs: number): () => void {
  let state: "answered" | "queued" | "sent" = "answered";
  const timer = setInterval(() => {
    if (state === "queued" || socket.readyState !== socket.OPEN) return;
    if (state === "sent") {
      socket.terminate();
      return;
    }
    state = "queued";
    socket.ping(undefined, undefined, () => {
      if (state === "queued") state = "sent";
    });
  }, everyMs).unref();
  const alive = () => {
    state = "answered";
  };
  socket.on("pong", alive);
  socket.on("message", alive);
  return () => clearInterval(timer);
}
