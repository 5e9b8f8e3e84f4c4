import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import type { Reply } from "./openai-server.ts";

// What the tool "pay" of the agents of agent-gateway.ts asks: its effects are counted where they happen.

export interface Tools {
  readonly url: string;
  /** Whom it was told to pay, each as often as it was. */
  readonly effects: readonly string[];
  /** Whom it pays, but does not say so before the release. */
  hold(to: string): void;
  release(to: string): void;
  /** How many of the calls that it has not answered were given up. */
  readonly abandoned: number;
  close(): void;
}

export async function startTools(): Promise<Tools> {
  const effects: string[] = [];
  const held = new Map<string, ServerResponse | null>();
  let abandoned = 0;
  const server: Server = createServer((request, response: ServerResponse) => {
    const to = new URL(request.url ?? "", "http://tools").searchParams.get("to") ?? "";
    effects.push(to);
    if (!held.has(to)) {
      response.end(`Paid ${to}.`);
      return;
    }
    held.set(to, response);
    response.once("close", () => {
      if (!response.writableEnded) abandoned += 1;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return {
    url: `http://127.0.0.1:${port}/pay`,
    effects,
    hold: (to) => void held.set(to, null),
    release(to) {
      held.get(to)?.end(`Paid ${to}.`);
      held.delete(to);
    },
    get abandoned() {
      return abandoned;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

export const pays = (...names: readonly string[]): Reply => ({
  kind: "reply",
  text: "Let me see.",
  finishReason: "tool_calls",
  toolCalls: names.map((to) => ({ id: `call-${to}`, name: "pay", arguments: JSON.stringify({ to }) })),
});
