import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as readText } from "node:stream/consumers";

import { isObject, type JsonObject } from "../../../src/conversation/message/json.ts";

// A server on loopback that speaks Anthropic's wire format, so that the real ChatAnthropic is what gets tested.

/** A block of a reply, in the pieces in which it comes. */
type Block =
  | { readonly type: "text"; readonly pieces: readonly string[]; readonly citations?: readonly JsonObject[] }
  | { readonly type: "thinking"; readonly pieces: readonly string[]; readonly signature: string }
  | {
      /** "server_tool_use": of a tool that the provider calls itself. */
      readonly type: "tool_use" | "server_tool_use";
      readonly id: string;
      readonly name: string;
      readonly pieces: readonly string[];
    }
  | { readonly type: "web_search_tool_result"; readonly tool_use_id: string; readonly content: readonly JsonObject[] };

export interface AnthropicReply {
  readonly blocks: readonly Block[];
  readonly stopReason: string;
  /**
   * "end" by default; "cut": the connection is reset behind the last piece; "silent": the stream ends there as if that were
   * all, as where a proxy in between has lost its server.
   */
  readonly ending?: "end" | "cut" | "silent";
}

export interface AnthropicServer {
  readonly url: string;
  /** The bodies of all requests. */
  readonly requests: readonly JsonObject[];
  /** For the next requests, one each. */
  next(...replies: readonly AnthropicReply[]): void;
  close(): Promise<void>;
}

export async function startAnthropic(): Promise<AnthropicServer> {
  const requests: JsonObject[] = [];
  const replies: AnthropicReply[] = [];
  const server = createServer((request, response) => {
    void readText(request).then(async (text) => {
      const body: unknown = JSON.parse(text);
      requests.push(isObject(body) ? body : {});
      const reply = replies.shift();
      if (reply === undefined) {
        response.writeHead(500).end();
        return;
      }
      await send(response, reply);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // it listens on a port
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    next: (...more) => void replies.push(...more),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function send(response: ServerResponse, { blocks, stopReason, ending = "end" }: AnthropicReply): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  // Each in a packet of its own.
  const tell = (data: { readonly type: string } & JsonObject) =>
    new Promise<void>((resolve) => {
      response.write(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`, () => setImmediate(resolve));
    });
  const about = { id: "msg_1", type: "message", role: "assistant", model: "claude-test" };
  const usage = { input_tokens: 10, output_tokens: 1 };
  const begun = { ...about, content: [], stop_reason: null, stop_sequence: null, usage };
  await tell({ type: "message_start", message: begun });
  for (const [index, block] of blocks.entries()) {
    await tell({ type: "content_block_start", index, content_block: emptyOf(block) });
    for (const delta of deltasOf(block)) await tell({ type: "content_block_delta", index, delta });
    const isLast = index === blocks.length - 1;
    if (isLast && ending === "cut") {
      // A moment later, so that what was written has been read: a reset may overtake it.
      setTimeout(() => response.destroy(), 50);
      return;
    }
    if (isLast && ending === "silent") break;
    await tell({ type: "content_block_stop", index });
  }
  if (ending === "end") {
    const delta = { stop_reason: stopReason, stop_sequence: null };
    await tell({ type: "message_delta", delta, usage: { output_tokens: 20 } });
    await tell({ type: "message_stop" });
  }
  response.end();
}

function emptyOf(block: Block): JsonObject {
  switch (block.type) {
    case "text":
      return { type: "text", text: "", ...(block.citations === undefined ? {} : { citations: [] }) };
    case "thinking":
      return { type: "thinking", thinking: "", signature: "" };
    case "tool_use":
    case "server_tool_use":
      return { type: block.type, id: block.id, name: block.name, input: {} };
    case "web_search_tool_result":
      return { ...block };
  }
}

function deltasOf(block: Block): readonly JsonObject[] {
  switch (block.type) {
    case "text":
      return [
        ...block.pieces.map((text) => ({ type: "text_delta", text })),
        ...(block.citations ?? []).map((citation) => ({ type: "citations_delta", citation })),
      ];
    case "thinking":
      return [
        ...block.pieces.map((thinking) => ({ type: "thinking_delta", thinking })),
        { type: "signature_delta", signature: block.signature },
      ];
    case "web_search_tool_result":
      return [];
    case "tool_use":
    case "server_tool_use":
      return block.pieces.map((partial_json) => ({ type: "input_json_delta", partial_json }));
  }
}
