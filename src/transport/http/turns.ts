import { AsyncResource } from "node:async_hooks";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/**
 * One request of a connection after another. Node begins all that a client sends at once (pipelining), and keeps their
 * answers for a reader that may never read (P10): here a request waits until the network has taken the answers before its
 * own, and while one waits nothing more of its connection is read.
 */
export class Turns {
  readonly #waiting = new WeakMap<Socket, number>();

  /** Calls `answer` when it is this request's turn: mostly at once. Of a connection that is gone it never is. */
  take(request: IncomingMessage, response: ServerResponse, answer: () => void): void {
    // Node gives a response its socket when those before it are written.
    if (response.socket !== null) {
      answer();
      return;
    }
    const { socket } = request;
    this.#hold(socket);
    // Told of within the request before, whose trace and id are not this one's.
    const begin = AsyncResource.bind(answer);
    response.once("socket", () => {
      this.#release(socket);
      begin();
    });
  }

  #hold(socket: Socket): void {
    const waiting = this.#waiting.get(socket);
    this.#waiting.set(socket, (waiting ?? 0) + 1);
    socket.pause();
    // Node resumes it behind each request that has come whole.
    if (waiting === undefined) socket.on("resume", () => this.#waiting.get(socket) !== 0 && socket.pause());
  }

  #release(socket: Socket): void {
    const waiting = (this.#waiting.get(socket) ?? 1) - 1;
    this.#waiting.set(socket, waiting);
    if (waiting === 0) socket.resume();
  }
}
