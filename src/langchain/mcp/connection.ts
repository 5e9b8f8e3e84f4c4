import { AsyncLocalStorage } from "node:async_hooks";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { CallToolResult, Tool } from "@modelcontextprotocol/sdk/types.js";

/** How a server is reached. */
export type McpEndpoint =
  | {
      readonly kind: "stdio";
      readonly command: string;
      readonly args: readonly string[];
      readonly env: Readonly<Record<string, string>>;
      readonly cwd: string | null;
    }
  | { readonly kind: "http"; readonly url: string; readonly headers: Readonly<Record<string, string>> };

export interface ConnectionSettings {
  readonly connectTimeoutMs: number;
  /** A line that the server's process wrote to its standard error. */
  readonly onLine: (line: string) => void;
}

/** The most that one answer may be; what is beyond it ends the connection. */
const mostAnswerBytes = 10 * 1024 * 1024;
const mostTools = 1000;
const mostPages = 100;
/** Of a call the caller's signal is the only limit. */
const longest = 2 ** 31 - 1;

/** One connection to a server, from its handshake to its end. It never comes back: its owner makes another. */
export class McpConnection {
  readonly #client: Client;
  readonly #transport: StdioClientTransport | StreamableHTTPClientTransport;
  #isOver = false;

  private constructor(client: Client, transport: StdioClientTransport | StreamableHTTPClientTransport) {
    this.#client = client;
    this.#transport = transport;
    client.onclose = () => (this.#isOver = true);
  }

  /** `signal`: nobody waits for it any more. */
  static async open(endpoint: McpEndpoint, settings: ConnectionSettings, signal: AbortSignal): Promise<McpConnection> {
    // Without capabilities: it may ask neither the model (sampling) nor the user (elicitation), and sees no folders (roots).
    const client = new Client({ name: "parley", version: "1" }, { capabilities: {} });
    const transport = endpoint.kind === "stdio" ? started(endpoint, settings) : addressed(endpoint);
    const connection = new McpConnection(client, transport);
    client.onerror = () => undefined; // each failure comes to its call too
    try {
      await client.connect(transport, { timeout: settings.connectTimeoutMs, signal });
    } catch (error) {
      await client.close().catch(() => undefined);
      throw error;
    }
    return connection;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  async tools(timeoutMs: number): Promise<readonly Tool[]> {
    const tools: Tool[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      pages += 1;
      if (pages > mostPages) throw new Error(`Its list of tools has more than ${mostPages} pages.`);
      const page = await this.#client.listTools(cursor === undefined ? {} : { cursor }, { timeout: timeoutMs });
      tools.push(...page.tools);
      cursor = page.nextCursor;
    } while (cursor !== undefined && tools.length < mostTools);
    return tools;
  }

  /** An abort tells the server that the call is cancelled. */
  async call(name: string, args: Readonly<Record<string, unknown>>, signal: AbortSignal): Promise<CallToolResult> {
    const lost = Promise.withResolvers<never>();
    const options = { signal, timeout: longest };
    const called = losing.run(lost.reject, () =>
      this.#client.callTool({ name, arguments: { ...args } }, undefined, options),
    );
    // Safe: without a schema of its own the client checks the answer by that of CallToolResult.
    return (await Promise.race([called, lost.promise])) as CallToolResult;
  }

  /** Closes it, and tells the server that its session is over. */
  async leave(): Promise<void> {
    try {
      if (this.#transport instanceof StreamableHTTPClientTransport) await this.#transport.terminateSession();
    } finally {
      await this.close();
    }
  }

  /** A process is asked to end by the end of its input, then by signals. */
  async close(): Promise<void> {
    this.#isOver = true;
    await this.#client.close();
  }
}

function started(
  endpoint: McpEndpoint & { readonly kind: "stdio" },
  { onLine }: ConnectionSettings,
): StdioClientTransport {
  const { command, args, env, cwd } = endpoint;
  // What it inherits of the environment is PATH, HOME and the like: none of the gateway's secrets.
  const transport = new StdioClientTransport({
    command,
    args: [...args],
    env: { ...env },
    stderr: "pipe",
    maxBufferSize: mostAnswerBytes,
    ...(cwd === null ? {} : { cwd }),
  });
  // Read to its end, or the process would stand still when the pipe is full.
  let line = "";
  transport.stderr?.on("data", (chunk: Buffer) => {
    const lines = (line + chunk.toString()).split("\n");
    line = (lines.pop() ?? "").slice(0, 1000);
    for (const whole of lines) if (whole.trim() !== "") onLine(whole.trim().slice(0, 1000));
  });
  return transport;
}

function addressed({ url, headers }: McpEndpoint & { readonly kind: "http" }): StreamableHTTPClientTransport {
  return new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { ...headers } },
    fetch: boundedFetch,
  });
}

/** What fails the call that a request is for: where its stream ends without an answer, the client would wait for ever. */
const losing = new AsyncLocalStorage<(error: unknown) => void>();

/** A redirect would send the headers, secrets among them, to where the operator has not said. */
async function boundedFetch(url: string | URL, init: RequestInit = {}): Promise<Response> {
  // The stream on which a server speaks without having been asked: there is nothing that it may say.
  if ((init.method ?? "GET") === "GET") return new Response(null, { status: 405 });
  const response = await fetch(url, { ...init, redirect: "error" });
  if (response.body === null) return response;
  const reader = response.body.getReader();
  const lose = losing.getStore();
  let bytes = 0;
  const counted = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) {
          controller.close();
          // An answer that was among what the server has sent has come by then.
          setTimeout(() => lose?.(new Error("The answer ended early.")), 1000).unref();
          return;
        }
        bytes += value.byteLength;
        if (bytes > mostAnswerBytes) throw new Error(`The answer is longer than ${mostAnswerBytes} bytes.`);
        controller.enqueue(value);
      } catch (error) {
        controller.error(error);
        lose?.(error);
        await reader.cancel(error).catch(() => undefined);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const { status, statusText, headers } = response;
  return new Response(counted, { status, statusText, headers });
}
