import type { Chat } from "@ai-sdk/react";
import { expect } from "vitest";

import { createParleyClient } from "../../../packages/client/src/client.ts";
import type { ParleyClient, SessionStore } from "../../../packages/client/src/client.ts";
import type { ParleyUIMessage } from "../../../packages/client/src/kits/ai-sdk.ts";

type Live = "websocket" | "sse";

/** Clients of parley-client, each as a tab has it. */
export function startTabs(url: () => string) {
  const clients: ParleyClient[] = [];
  const clientOf = (live: Live = "websocket"): ParleyClient => {
    const client = createParleyClient({ url: url(), live });
    clients.push(client);
    return client;
  };
  /** A session as a tab shows it. */
  const open = (sessionId: string, live?: Live): SessionStore => {
    const store = clientOf(live).session(sessionId);
    store.subscribe(() => undefined);
    return store;
  };
  const close = () => {
    for (const client of clients.splice(0)) client.close();
  };
  return { clientOf, open, close };
}

/** Each message with its calls: how far each is, its arguments, and what it answered. */
export const lines = (store: SessionStore): readonly string[] =>
  store.getSnapshot().messages.map(({ role, status, text, toolCalls }) => {
    const calls = toolCalls.map((call) => ` [${call.status ?? "?"} ${call.argsText} ${call.result ?? "-"}]`);
    return `${role} ${status}: ${text}${calls.join("")}`;
  });
export const shown = (store: SessionStore) => expect.poll(() => lines(store));

/** Each message of a chat, with its parts. */
export const partsOf = ({ messages }: Chat<ParleyUIMessage>) =>
  messages.map(({ role, parts }) => {
    const all = parts.flatMap((part) => {
      if (part.type === "text") return [part.text];
      if (part.type !== "dynamic-tool") return [];
      const input = part.state === "input-streaming" ? part.rawInput : JSON.stringify(part.input);
      const end =
        part.state === "output-error" ? part.errorText : part.state === "output-available" ? part.output : "-";
      return [`[${part.state} ${input} ${String(end)}]`];
    });
    return `${role}: ${all.join(" ")}`;
  });
