import type { AddressInfo, Socket } from "node:net";
import { connect, createServer } from "node:net";

/** A TCP proxy on 127.0.0.1 that fails in the ways a network does. Faults also hold for connections made later. */
export interface TcpProxy {
  readonly port: number;
  /** Connections through it that are open now. */
  readonly connections: number;
  /** Bytes that the server sent and that were thrown away. */
  readonly droppedBytes: number;
  /** While on, requests reach the server and its replies are thrown away. Connections stay open. */
  dropReplies(on: boolean): void;
  /**
   * The next bytes that the server sends, on whichever connection, are thrown away and that connection is cut: the
   * server has done what was asked, and the client cannot know. Resolves when that has happened.
   */
  loseNextReply(): Promise<void>;
  /** While on, bytes go nowhere in either direction and nothing is closed. What came meanwhile goes on afterwards. */
  blackhole(on: boolean): void;
  /** Connections that are made from now on lead to another server; those that are open stay, as behind a name that moves. */
  leadTo(targetPort: number): void;
  /** Cuts all connections (RST); new ones are accepted. */
  cutAll(): void;
  /** Cuts all connections, and refuses new ones while on. */
  refuse(on: boolean): void;
  close(): Promise<void>;
}

/** Starts a proxy to a server on 127.0.0.1. */
export async function startProxy(targetPort: number): Promise<TcpProxy> {
  const proxy = new Proxy(targetPort);
  await proxy.listen();
  return proxy;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

class Proxy implements TcpProxy {
  readonly #server = createServer((client) => this.#accept(client));
  #targetPort: number;
  readonly #pairs = new Set<Pair>();
  #dropping = false;
  #blackholed = false;
  #refusing = false;
  #droppedBytes = 0;
  readonly #onLost: (() => void)[] = [];
  #port = 0;

  constructor(targetPort: number) {
    this.#targetPort = targetPort;
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, "127.0.0.1", () => {
        // A TCP server that listens has an AddressInfo; a string is for pipes only.
        this.#port = (this.#server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  get port(): number {
    return this.#port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  get droppedBytes(): number {
    return this.#droppedBytes;
  }

  dropReplies(on: boolean): void {
    this.#dropping = on;
  }

  loseNextReply(): Promise<void> {
    return new Promise((resolve) => this.#onLost.push(resolve));
  }

  blackhole(on: boolean): void {
    this.#blackholed = on;
    for (const pair of this.#pairs) this.#flow(pair);
  }

  leadTo(targetPort: number): void {
    this.#targetPort = targetPort;
  }

  cutAll(): void {
    for (const pair of this.#pairs) cut(pair);
  }

  refuse(on: boolean): void {
    this.#refusing = on;
    if (on) this.cutAll();
  }

  close(): Promise<void> {
    this.cutAll();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ port: this.#targetPort, host: "127.0.0.1", noDelay: true });
    client.setNoDelay(true);
    const pair: Pair = { client, server };
    this.#pairs.add(pair);
    client.on("data", (bytes) => this.#forward(bytes, client, server));
    server.on("data", (bytes) => this.#reply(bytes, pair));
    for (const socket of [client, server]) {
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#pairs.delete(pair);
        cut(pair);
      });
    }
    this.#flow(pair);
  }

  #reply(bytes: Buffer, pair: Pair): void {
    const onLost = this.#onLost.shift();
    if (onLost === undefined && !this.#dropping) {
      this.#forward(bytes, pair.server, pair.client);
      return;
    }
    this.#droppedBytes += bytes.length;
    if (onLost === undefined) return;
    cut(pair);
    onLost();
  }

  /** With back-pressure: a reader that does not read must be felt by the server. */
  #forward(bytes: Buffer, from: Socket, to: Socket): void {
    if (to.write(bytes)) return;
    from.pause();
    to.once("drain", () => {
      if (!this.#blackholed) from.resume();
    });
  }

  #flow({ client, server }: Pair): void {
    for (const socket of [client, server]) {
      if (this.#blackholed) socket.pause();
      else socket.resume();
    }
  }
}

/** Reset, not end: bytes under way are lost, as when a cable is pulled. */
function cut({ client, server }: Pair): void {
  client.resetAndDestroy();
  server.resetAndDestroy();
}
