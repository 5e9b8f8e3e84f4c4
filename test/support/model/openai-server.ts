import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as readText } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

import { isObject, type JsonObject } from "../../../src/conversation/message/json.ts";
import { smallModel, textOf } from "./small-model.ts";

// A server on loopback that speaks OpenAI's wire format, so that the real ChatOpenAI is what gets tested. Without any
// script it is a small deterministic model: it repeats what it was told, and finds a name in the request's messages.

export type Behaviour =
  | Reply
  /**
   * Each token, and each piece of a call's arguments, waits for a release(), and the end (finish reason, usage) for one
   * more; without streaming the whole for one.
   */
  | ({ readonly kind: "gated"; readonly tokens: readonly string[] } & Pick<Reply, "reasoning" | "toolCalls">)
  /** Two tokens, then an error in the stream. */
  | { readonly kind: "errorFrame"; readonly code: string }
  | Raw
  | Failure;

export interface Reply {
  readonly kind: "reply";
  readonly text?: string;
  /** The text as it is cut for streaming; by default by words. */
  readonly tokens?: readonly string[];
  /** What it thinks before the text, a piece each. */
  readonly reasoning?: readonly string[];
  readonly delayMs?: number;
  /** From `[DONE]` to the end of the stream, which is then in a packet of its own. */
  readonly endDelayMs?: number;
  /** "stop" by default; null: none. */
  readonly finishReason?: string | null;
  /** A list of arguments: the pieces in which they come. */
  readonly toolCalls?: readonly {
    readonly id: string;
    readonly name: string;
    readonly arguments: string | readonly string[];
  }[];
}

/** A response byte for byte, for what other servers send. */
export interface Raw {
  readonly kind: "raw";
  /** 200 by default. */
  readonly status?: number;
  /** An event stream by default. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Each leaves in a packet of its own. */
  readonly parts: readonly (string | Uint8Array | { readonly waitMs: number })[];
  /** "end" by default; "cut": the connection is closed in mid-body; "open": nothing happens any more. */
  readonly ending?: "end" | "cut" | "open";
}

type Failure =
  keyof typeof httpErrors | "cutMidStream" | "errorFrame" | "noFinishReason" | "hang" | "hangMidStream" | "empty";

export interface RecordedRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: JsonObject;
  readonly messages: readonly JsonObject[];
}

export interface OpenAIServer {
  /** For OPENAI_BASE_URL. */
  readonly baseUrl: string;
  readonly requests: readonly RecordedRequest[];
  /** How many were opened to it in all. */
  readonly connections: number;
  /** How many replies a client closed the socket of before they were complete. */
  readonly aborted: number;
  /**
   * From now on, whatever next() was told before. A function is asked for each request; null is the small model again.
   * Closes the gate.
   */
  behave(behaviour: Behaviour | ((request: RecordedRequest) => Behaviour) | null): void;
  /** For the next requests, one each; then what behave() said. */
  next(...behaviours: readonly Behaviour[]): void;
  /** Lets as many tokens of gated replies through, first come first served; kept for later ones if none wait. */
  release(count?: number): void;
  /** Opens the gate until the next behave(). */
  releaseAll(): void;
  /** Until so many requests have come in all. */
  waitForRequests(count?: number): Promise<void>;
  /** Until so many replies were aborted in all. */
  waitForAbort(count?: number): Promise<void>;
  close(): Promise<void>;
}

/** What the errors' messages carry and no client of ours may ever show. */
export const secretOfErrors = "sk-do-not-show";

export async function startOpenAI(): Promise<OpenAIServer> {
  const requests: RecordedRequest[] = [];
  const gate = createGate();
  const changes = createChanges();
  const queued: Behaviour[] = [];
  let behaviour: Behaviour | ((request: RecordedRequest) => Behaviour) | null = null;
  let aborted = 0;
  let connections = 0;

  const handle = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const request = await recordOf(incoming);
    requests.push(request);
    changes.announce();
    let cut = false;
    response.on("close", () => {
      if (response.writableFinished || cut) return;
      aborted += 1;
      changes.announce();
    });
    const scripted = queued.shift() ?? (typeof behaviour === "function" ? behaviour(request) : behaviour);
    const chosen = scripted ?? { kind: "reply", text: smallModel(request.messages) };
    if (chosen === "hang") return;
    if (typeof chosen === "string" && chosen in httpErrors) {
      // Safe: `in` has just said so.
      const { status, error, headers } = httpErrors[chosen as keyof typeof httpErrors];
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify({ error }));
      return;
    }
    if (typeof chosen === "object" && chosen.kind === "raw") {
      cut = chosen.ending === "cut";
      await sendRaw(response, chosen);
      return;
    }
    const reply = replyOf(chosen);
    if (request.body["stream"] !== true) {
      if (typeof chosen === "object" && chosen.kind === "gated") await gate.pass();
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(completionOf(request, reply)));
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const frame of framesOf(request, reply)) {
      if (typeof chosen === "object" && chosen.kind === "gated" && frame.step) await gate.pass();
      if (frame.step && reply.delayMs > 0) await sleep(reply.delayMs);
      if (response.destroyed) return;
      response.write(`data: ${typeof frame.data === "string" ? frame.data : JSON.stringify(frame.data)}\n\n`);
    }
    if (reply.endDelayMs > 0) await sleep(reply.endDelayMs);
    if (reply.ending === "end") response.end();
    if (reply.ending === "cut") {
      cut = true;
      // One turn later, so that what was written is on its way.
      response.write("", () => setImmediate(() => response.destroy()));
    }
  };

  const server = createServer((incoming, response) => {
    handle(incoming, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });
  server.on("connection", () => (connections += 1));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // Safe: a server that listens on TCP has a port.
  const { port } = server.address() as AddressInfo;

  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    requests,
    get connections() {
      return connections;
    },
    get aborted() {
      return aborted;
    },
    behave(next) {
      behaviour = next;
      queued.length = 0;
      gate.close();
    },
    next: (...behaviours) => void queued.push(...behaviours),
    release: (count = 1) => gate.release(count),
    releaseAll: () => gate.open(),
    waitForRequests: (count = 1) => changes.until(() => requests.length >= count, `${count} requests`),
    waitForAbort: (count = 1) => changes.until(() => aborted >= count, `${count} aborted replies`),
    async close() {
      gate.open();
      await new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      });
    },
  };
}

const httpErrors = {
  "400": failure(400, "invalid_request_error", null),
  "401": failure(401, "invalid_request_error", "invalid_api_key"),
  "403": failure(403, "invalid_request_error", null),
  "404": failure(404, "invalid_request_error", "model_not_found"),
  "429": failure(429, "requests", "rate_limit_exceeded"),
  /** As "429", with the hint after which a client tries again. */
  "429RetryAfter": failure(429, "requests", "rate_limit_exceeded", { "retry-after": "0" }),
  quota: failure(429, "insufficient_quota", "insufficient_quota"),
  "500": failure(500, "server_error", null),
  "503": failure(503, "server_error", "overloaded"),
  context_length: failure(400, "invalid_request_error", "context_length_exceeded"),
  contentFilter: failure(400, "invalid_request_error", "content_filter"),
};

function failure(status: number, type: string, code: string | null, headers: Readonly<Record<string, string>> = {}) {
  const message = `${code ?? type}: the key ${secretOfErrors} was refused at http://127.0.0.1/secret`;
  return { status, headers, error: { message, type, code, param: null } };
}

async function sendRaw(response: ServerResponse, { status = 200, headers, parts, ending = "end" }: Raw): Promise<void> {
  response.writeHead(status, { "content-type": "text/event-stream", ...headers });
  response.flushHeaders();
  for (const part of parts) {
    if (response.destroyed) return;
    if (typeof part === "object" && "waitMs" in part) await sleep(part.waitMs);
    else await new Promise<void>((resolve) => response.write(part, () => setImmediate(resolve)));
  }
  if (ending === "end") response.end();
  // A moment later, so that what was written has been read: a reset may overtake it.
  if (ending === "cut") setTimeout(() => response.destroy(), 50);
}

async function recordOf(incoming: IncomingMessage): Promise<RecordedRequest> {
  const parsed: unknown = JSON.parse(await readText(incoming));
  const body = isObject(parsed) ? parsed : {};
  const messages = Array.isArray(body["messages"]) ? body["messages"].filter(isObject) : [];
  return { path: incoming.url ?? "", headers: incoming.headers, body, messages };
}

interface Script {
  readonly reasoning: readonly string[];
  readonly tokens: readonly string[];
  readonly delayMs: number;
  readonly endDelayMs: number;
  readonly finishReason: string | null;
  readonly toolCalls: NonNullable<Reply["toolCalls"]>;
  /** A frame instead of the end. */
  readonly errorCode: string | null;
  readonly ending: "end" | "cut" | "open";
}

function replyOf(behaviour: Exclude<Behaviour, Raw>): Script {
  const whole: Script = {
    reasoning: [],
    tokens: ["Half", " a", " reply"],
    delayMs: 0,
    endDelayMs: 0,
    finishReason: "stop",
    toolCalls: [],
    errorCode: null,
    ending: "end",
  };
  switch (behaviour) {
    case "cutMidStream":
      return { ...whole, finishReason: null, ending: "cut" };
    case "hangMidStream":
      return { ...whole, finishReason: null, ending: "open" };
    case "noFinishReason":
      return { ...whole, finishReason: null };
    case "empty":
      return { ...whole, tokens: [], finishReason: null };
    case "errorFrame":
      return { ...whole, errorCode: "server_error" };
  }
  if (typeof behaviour === "string") return whole;
  if (behaviour.kind === "errorFrame") return { ...whole, errorCode: behaviour.code };
  if (behaviour.kind === "gated") {
    return { ...whole, ...behaviour, finishReason: behaviour.toolCalls === undefined ? "stop" : "tool_calls" };
  }
  const { text = "", tokens = text.match(/\s*\S+/g) ?? [], toolCalls = [], reasoning = [] } = behaviour;
  const { delayMs = 0, endDelayMs = 0, finishReason = "stop" } = behaviour;
  return { ...whole, reasoning, tokens, delayMs, endDelayMs, finishReason, toolCalls };
}

interface Frame {
  readonly data: unknown;
  /** A token or the end: what a gate holds back. */
  readonly step: boolean;
}

function* framesOf(request: RecordedRequest, reply: Script): Generator<Frame> {
  const chunk = (delta: object, finish_reason: string | null = null): JsonObject => ({
    ...frameHead(request, "chat.completion.chunk"),
    choices: [{ index: 0, delta, finish_reason, logprobs: null }],
  });
  if (reply.tokens.length > 0 || reply.toolCalls.length > 0) {
    yield { data: chunk({ role: "assistant", content: "" }), step: false };
  }
  for (const reasoning_content of reply.reasoning) yield { data: chunk({ reasoning_content }), step: true };
  for (const content of reply.tokens) yield { data: chunk({ content }), step: true };
  for (const [index, { id, name, arguments: args }] of reply.toolCalls.entries()) {
    yield {
      data: chunk({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] }),
      step: false,
    };
    for (const piece of [args].flat()) {
      yield { data: chunk({ tool_calls: [{ index, function: { arguments: piece } }] }), step: true };
    }
  }
  if (reply.errorCode !== null) {
    yield { data: { error: failure(200, reply.errorCode, reply.errorCode).error }, step: true };
    return;
  }
  if (reply.finishReason !== null) {
    yield { data: chunk({}, reply.finishReason), step: true };
    const options = request.body["stream_options"];
    if (isObject(options) && options["include_usage"] === true) {
      const usage = usageOf(request, reply);
      yield { data: { ...frameHead(request, "chat.completion.chunk"), choices: [], usage }, step: false };
    }
  }
  if (reply.ending === "end") yield { data: "[DONE]", step: false };
}

function completionOf(request: RecordedRequest, reply: Script): JsonObject {
  const tool_calls = reply.toolCalls.map(({ id, name, arguments: args }) => ({
    id,
    type: "function",
    function: { name, arguments: [args].flat().join("") },
  }));
  const message = {
    role: "assistant",
    content: reply.tokens.join(""),
    refusal: null,
    ...(reply.reasoning.length === 0 ? {} : { reasoning_content: reply.reasoning.join("") }),
    ...(tool_calls.length === 0 ? {} : { tool_calls }),
  };
  return {
    ...frameHead(request, "chat.completion"),
    choices: [{ index: 0, message, finish_reason: reply.finishReason, logprobs: null }],
    usage: usageOf(request, reply),
  };
}

function frameHead(request: RecordedRequest, object: string): JsonObject {
  return { id: "chatcmpl-1", object, created: 1_700_000_000, model: request.body["model"], system_fingerprint: "fp_1" };
}

/** A word is a token here. */
function usageOf(request: RecordedRequest, reply: Script): JsonObject {
  const words = (text: string): number => text.match(/\S+/g)?.length ?? 0;
  const prompt_tokens = request.messages.reduce((sum, message) => sum + words(textOf(message)), 0);
  const completion_tokens = words(reply.tokens.join(""));
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}

function createGate() {
  let isOpen = false;
  let permits = 0;
  const waiting: (() => void)[] = [];
  const admit = (): void => {
    while (waiting.length > 0 && (isOpen || permits > 0)) {
      if (!isOpen) permits -= 1;
      waiting.shift()?.();
    }
  };
  return {
    pass: () =>
      new Promise<void>((resolve) => {
        waiting.push(resolve);
        admit();
      }),
    release(count: number) {
      permits += count;
      admit();
    },
    open() {
      isOpen = true;
      admit();
    },
    close() {
      isOpen = false;
      permits = 0;
    },
  };
}

/** Waits for facts, with a limit that names what did not happen. */
function createChanges() {
  const waiting = new Set<() => void>();
  return {
    announce: () => waiting.forEach((look) => look()),
    until: (holds: () => boolean, what: string) =>
      new Promise<void>((resolve, reject) => {
        const limit = setTimeout(() => {
          waiting.delete(look);
          reject(new Error(`No ${what} within 60 s`));
        }, 60_000);
        const look = (): void => {
          if (!holds()) return;
          clearTimeout(limit);
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
  };
}
