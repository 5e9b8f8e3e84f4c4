import { Window } from "happy-dom";
import { createElement } from "react";
import type { ReactNode } from "react";
import type { RootOptions } from "react-dom/client";
import { vi } from "vitest";

import { createParleyClient } from "../../../packages/client/src/client.ts";
import type { ParleyClient, RawEvent } from "../../../packages/client/src/client.ts";
import { ParleyProvider } from "../../../packages/client/src/react.ts";
import { startOpenAI, type OpenAIServer } from "../model/openai-server.ts";
import { startRedis } from "../redis/redis-server.ts";
import { spawnGateway } from "./gateway.ts";

/** A page that happy-dom makes, with real React, and a gateway for it. What is shown and what is opened ends with `endTest`. */
export interface ReactPage {
  readonly window: Window;
  readonly openai: OpenAIServer;
  clientOf(frames?: RawEvent[]): ParleyClient;
  /** Shows it; what is returned gives its text. With `html` React takes over what a server has rendered. */
  show(element: ReactNode, html?: string, options?: RootOptions): () => string;
  endTest(): void;
  close(): Promise<void>;
}

/** The gateway is a process of its own: some of what it uses takes a process with a window for a browser. */
export async function startReactPage(more: Readonly<Record<string, string>> = {}): Promise<ReactPage> {
  const [openai, redis] = await Promise.all([startOpenAI(), startRedis({ appendonly: false })]);
  const gateway = await spawnGateway({
    ...{ REDIS_URL: redis.url, MODEL: "openai:small" },
    ...{ OPENAI_API_KEY: "sk-test", OPENAI_BASE_URL: openai.baseUrl, ...more },
  });
  const window = new Window({ url: "http://localhost/" });
  vi.stubGlobal("window", window);
  vi.stubGlobal("document", window.document);
  // It looks for them when it is loaded.
  const dom = await import("react-dom/client");
  const closing: (() => void)[] = [];
  return {
    window,
    openai,
    clientOf(frames = []) {
      const client = createParleyClient({ url: gateway.url, onEvent: (event) => frames.push(event) });
      closing.push(() => client.close());
      return client;
    },
    show(element, html, options = {}) {
      const container = window.document.createElement("div");
      container.innerHTML = html ?? "";
      const place = container as unknown as Element; // a page's element, with another name for its type
      const root = html === undefined ? dom.createRoot(place, options) : dom.hydrateRoot(place, element, options);
      if (html === undefined) root.render(element);
      closing.unshift(() => root.unmount());
      return () => container.textContent;
    },
    endTest() {
      for (const close of closing.splice(0)) close();
      openai.releaseAll();
      openai.behave(null);
    },
    async close() {
      await window.happyDOM.close();
      await gateway.stop();
      await Promise.all([redis.stop(), openai.close()]);
    },
  };
}

export function elementFor(client: ParleyClient, ...children: readonly ReactNode[]): ReactNode {
  return createElement(ParleyProvider, { client }, ...children);
}
