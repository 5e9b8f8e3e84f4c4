import type { CallToolResult, Tool } from "@modelcontextprotocol/sdk/types.js";

import type { McpConnection, McpEndpoint } from "./connection.ts";

interface McpServerSettings {
  readonly name: string;
  readonly endpoint: McpEndpoint;
  /** How long a run waits for the server: for its handshake and its list of tools. */
  readonly connectTimeoutMs: number;
  /** For the operator: it cannot be reached. */
  readonly onFailure: (error: unknown) => void;
  readonly onLine: (line: string) => void;
}

/** It could not be reached, or not in time. */
export class McpUnavailable extends Error {
  override readonly name = "McpUnavailable";
}

/**
 * A server of the Model Context Protocol. It is connected in the background; where its connection ends (the process has
 * crashed, the server was started anew), the next run and the next call make another. A call is never sent twice: it may have
 * taken effect.
 */
export class McpServer {
  readonly #settings: McpServerSettings;
  #connection: Promise<McpConnection> | null = null;
  #problem: string | null = "is not connected yet";
  readonly #closing = new AbortController();

  constructor(settings: McpServerSettings) {
    this.#settings = settings;
  }

  get name(): string {
    return this.#settings.name;
  }

  /** What stands in its way, for the operator; null: nothing. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Connects in the background, so that the first run need not wait. */
  start(): void {
    void this.tools().catch(() => undefined); // told to the operator
  }

  /**
   * The tools that it has now. It is asked each time: so a server that was started anew is noticed before a call, and a list
   * that has changed, too.
   * @throws {McpUnavailable}
   */
  async tools(signal?: AbortSignal): Promise<readonly Tool[]> {
    const { connectTimeoutMs: ms, name, onFailure } = this.#settings;
    const end = timer(ms);
    try {
      const tools = await Promise.race([this.#list(), end.promise, ...(signal ? [aborted(signal)] : [])]);
      this.#problem = null;
      return tools;
    } catch (error) {
      signal?.throwIfAborted();
      if (!this.#closing.signal.aborted) onFailure(error);
      this.#problem = "cannot be reached";
      throw new McpUnavailable(`The MCP server ${name} cannot be reached.`, { cause: error });
    } finally {
      end.clear();
    }
  }

  async call(tool: string, args: Readonly<Record<string, unknown>>, signal: AbortSignal): Promise<CallToolResult> {
    const connection = await Promise.race([this.#connected(), aborted(signal)]);
    try {
      return await connection.call(tool, args, signal);
    } catch (error) {
      if (!signal.aborted && !isAnswer(error)) await this.#drop(connection);
      throw error;
    }
  }

  /**
   * A call as the user whose token it is, over a connection of its own, which nobody else's call goes over. The token is in
   * nothing that comes of it.
   */
  async callAs(
    token: string,
    tool: string,
    args: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<CallToolResult> {
    const { endpoint, connectTimeoutMs, onLine } = this.#settings;
    if (endpoint.kind !== "http") throw new TypeError("Only an address is given a token");
    const others = Object.entries(endpoint.headers).filter(([name]) => name.toLowerCase() !== "authorization");
    const headers = { ...Object.fromEntries(others), authorization: `Bearer ${token}` };
    const until = AbortSignal.any([signal, this.#closing.signal]);
    try {
      const { McpConnection: Connection } = await import("./connection.ts");
      const connection = await Connection.open({ ...endpoint, headers }, { connectTimeoutMs, onLine }, until);
      try {
        const result = await connection.call(tool, args, until);
        // Safe: what JSON has is as it was.
        return JSON.parse(withoutToken(JSON.stringify(result), token)) as CallToolResult;
      } finally {
        // Nobody waits for its end.
        void connection.leave().catch(() => undefined);
      }
    } catch (error) {
      if (signal.aborted) throw error;
      // eslint-disable-next-line preserve-caught-error -- the cause may hold the token
      throw new Error(withoutToken(error instanceof Error ? error.message : String(error), token));
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const connection = await this.#connection?.catch(() => null);
    this.#connection = null;
    await connection?.close().catch(() => undefined);
  }

  async #list(): Promise<readonly Tool[]> {
    const { connectTimeoutMs } = this.#settings;
    const before = this.#connection;
    const connection = await this.#connected();
    try {
      return await connection.tools(connectTimeoutMs);
    } catch (error) {
      await this.#drop(connection);
      // One that was there already may be that of a server which is gone.
      if (before === null || this.#closing.signal.aborted) throw error;
    }
    return await (await this.#connected()).tools(connectTimeoutMs);
  }

  async #connected(): Promise<McpConnection> {
    if (this.#closing.signal.aborted) throw new Error("The gateway is stopping.");
    const known = await this.#connection;
    if (known && !known.isOver) return known;
    if (known) await this.#drop(known);
    this.#connection ??= this.#open();
    return await this.#connection;
  }

  #open(): Promise<McpConnection> {
    const { endpoint, connectTimeoutMs, onLine } = this.#settings;
    // Loaded here: the client takes 0.2 s, and most gateways have no such server.
    const opening = import("./connection.ts").then(({ McpConnection: Connection }) =>
      Connection.open(endpoint, { connectTimeoutMs, onLine }, this.#closing.signal),
    );
    opening.catch(() => {
      if (this.#connection === opening) this.#connection = null;
    });
    return opening;
  }

  async #drop(connection: McpConnection): Promise<void> {
    const current = this.#connection;
    const known = await current?.catch(() => null);
    // Another may have been opened in its place meanwhile.
    if (known === connection && this.#connection === current) this.#connection = null;
    // A process that hangs takes its time to end, which nobody waits for.
    void connection.close().catch(() => undefined);
  }
}

/** The server has answered with an error: the connection is well. (-32000: the connection was closed; -32001: no answer came.) */
function isAnswer(error: unknown): boolean {
  return (
    error instanceof Error &&
    error.name === "McpError" &&
    "code" in error &&
    ![-32000, -32001].includes(Number(error.code))
  );
}

/** A server may say again what it was sent. */
function withoutToken(text: string, token: string): string {
  return text.replaceAll(token, "(token)");
}

function timer(ms: number): { readonly promise: Promise<never>; readonly clear: () => void } {
  let timeout: NodeJS.Timeout | undefined;
  const promise = new Promise<never>((_resolve, reject) => {
    timeout = setTimeout(() => reject(new Error(`There was no answer within ${ms} ms.`)), ms);
  });
  return { promise, clear: () => clearTimeout(timeout) };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const abort = () => reject(signal.reason instanceof Error ? signal.reason : new Error("It was cancelled."));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}
