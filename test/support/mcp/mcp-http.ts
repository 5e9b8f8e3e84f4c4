import { randomUUID } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

import { testMcpServer } from "./mcp-tools.ts";

export interface McpHttpServer {
  readonly url: string;
  readonly notes: readonly string[];
  readonly methods: readonly string[];
  /** What each call of a tool had as `authorization`. */
  readonly callers: readonly (string | null)[];
  /** How many sessions are open. */
  readonly sessions: number;
  /** Of the last request. */
  readonly headers: IncomingHttpHeaders;
  /** Forgets its sessions, as a server does that is started anew. */
  restart(): void;
  /** From now on it sends everybody elsewhere; null: it does no more. */
  redirect(to: string | null): void;
  close(): Promise<void>;
}

/** The server of mcp-tools.ts over streamable HTTP, with sessions. */
export async function startMcpHttp(): Promise<McpHttpServer> {
  const notes: string[] = [];
  const methods: string[] = [];
  const callers: (string | null)[] = [];
  const sessions = new Map<string, StreamableHTTPServerTransport>();
  let elsewhere: string | null = null;
  let headers: IncomingHttpHeaders = {};
  const server = createServer((request, response) => {
    headers = request.headers;
    methods.push(request.method ?? "");
    if (elsewhere !== null) {
      response.writeHead(307, { location: elsewhere }).end();
      return;
    }
    const id = request.headers["mcp-session-id"];
    const known = typeof id === "string" ? sessions.get(id) : undefined;
    if (id !== undefined && known === undefined) {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(JSON.stringify({ jsonrpc: "2.0", error: { code: -32001, message: "Session not found" }, id: null }));
      return;
    }
    void (known === undefined ? opened() : Promise.resolve(known)).then((transport) =>
      transport.handleRequest(request, response),
    );
  });
  const opened = async (): Promise<StreamableHTTPServerTransport> => {
    const transport: StreamableHTTPServerTransport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await testMcpServer((what) => notes.push(what)).connect(transport);
    const answer = transport.onmessage;
    transport.onmessage = (message, extra) => {
      if ("method" in message && message.method === "tools/call") {
        const given = extra?.requestInfo?.headers["authorization"];
        callers.push(typeof given === "string" ? given : null);
      }
      answer?.(message, extra);
    };
    return transport;
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // it listens on a port
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    notes,
    methods,
    callers,
    get sessions() {
      return sessions.size;
    },
    get headers() {
      return headers;
    },
    restart: () => sessions.clear(),
    redirect: (to) => (elsewhere = to),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
