import { createParser } from "eventsource-parser";

import {
  arrayOrEmpty,
  isObject,
  objectOrEmpty,
  parseJson,
  stringOrNull,
  type JsonObject,
} from "../../conversation/message/json.ts";
import { BodyText } from "./body.ts";
import { ChatStream } from "./chat-stream.ts";
import { cutOff, errorIn, errorResponse, notOpenAI, providerError, type ProviderError } from "./provider-error.ts";
import type { WholeStream } from "./records.ts";
import { ResponsesStream } from "./responses-stream.ts";

/**
 * A provider's response as OpenAI itself would have sent it, so that LangChain and OpenAI's client meet no other.
 *
 * | what comes | who sends it | what becomes of it |
 * | --- | --- | --- |
 * | a chunk without `delta`, or null | Azure's filter, proxies | its finish reason and usage count |
 * | `delta.content` as a list | Mistral, servers in front of it | text is text, thinking is `reasoning_content` |
 * | `message` or `text` for `delta` | older servers | is the delta, or the text so far; nothing new behind deltas |
 * | the role late, missing, empty, repeated | vLLM, Ollama, LM Studio | assistant, always |
 * | `reasoning` | OpenRouter, Groq, Ollama, vLLM | `reasoning_content` |
 * | tool calls without index, all of index 0, arguments as an object, names repeated | Gemini, Ollama, proxies | told apart by id and name |
 * | "" as a finish reason | Ollama | not yet; the end where others had null and `[DONE]` follows |
 * | a finish reason with every chunk | Gemini | counts with a proper end only |
 * | trouble behind a finish reason, or no end | proxies, cut connections | the reply is whole already |
 * | error, insufficient_system_resource, network_error, abort | OpenRouter, DeepSeek, GLM, vLLM | the reply has failed |
 * | "null" as a finish reason | DashScope | not yet |
 * | an error beside or in a choice, as a record, with HTTP 200 | OpenRouter, LM Studio, proxies | that error; with its status, if nothing came before |
 * | a refusal | OpenAI | its text, then an error |
 * | usage without a total, null, with every chunk, in parts, in `x_groq` or a choice | Qwen, Dynamo, xAI, Groq, Moonshot | once, behind the finish reason, added up |
 * | JSON instead of a stream, a stream instead of JSON, JSON lines | proxies, mocks | what was asked for |
 * | `[DONE]` missing, quoted, with spaces | many | the end |
 * | CRLF, a BOM, comments, names of events, no space behind `data:`, no empty line at the end or in between | many | read as meant |
 * | half a record, an end without a finish reason | cut connections | the reply was cut off |
 * | a page of HTML | a wrong base URL | an error that says so |
 */
export async function normalised(response: Response, wanted: Wanted): Promise<Answer> {
  const stream = wanted.api === "responses" ? new ResponsesStream() : new ChatStream();
  const source = new Source(response, stream, wanted);
  // So far that an error in place of a reply can still be told by a status, on which LangChain tries again.
  const begun = await source.begin();
  const atOnce = begun.length === 1 ? stream.error : null;
  const error = wanted.streams ? atOnce : stream.error;
  const status = error === null ? null : (error.status ?? (wanted.streams ? null : 500));
  if (error !== null && status !== null)
    return { answer: errorResponse(error, status, response.headers), error: atOnce };
  const headers = new Headers(response.headers);
  for (const name of ["content-length", "content-encoding"]) headers.delete(name);
  headers.set("content-type", wanted.streams ? "text/event-stream" : "application/json");
  const body = wanted.streams ? source.framesFrom(begun) : JSON.stringify(wholeOf(begun, wanted.api));
  return { answer: new Response(body, { status: 200, headers }), error: atOnce };
}

/** Of a response with a status of 400 or more. */
export async function failedAnswer(response: Response): Promise<Answer> {
  const text = response.body === null ? "" : await new BodyText(response.body).rest(maxErrorChars);
  const error = providerError(parseJson(text) ?? text, response.status);
  return { answer: errorResponse(error, response.status, response.headers), error };
}

interface Answer {
  readonly answer: Response;
  /** That came in place of a reply; null where anything of one was there. */
  readonly error: ProviderError | null;
}

export interface Wanted {
  readonly api: "chat" | "responses";
  /** The request asked for a stream. */
  readonly streams: boolean;
  /** At each record that the model itself caused. */
  readonly onLife: () => void;
  /** For how long somebody still waits. */
  readonly remainingMs: () => number;
}

const maxErrorChars = 64_000;
/** Of a record, and of a body that is no stream. */
const maxChars = 16_000_000;
/** What comes behind a finish reason, the usage, comes at once or not at all; signs of life alone may go on forever. */
const behindFinishMs = 3000;

/** Reads a body record by record into `stream`. */
class Source {
  readonly #text: BodyText | null;
  readonly #stream: WholeStream;
  readonly #wanted: Wanted;
  /** What was read so far ends with the line of a record. */
  #endsRecord = false;
  /** Until when more is waited for behind a reply that is complete. */
  #waitsUntil: number | null = null;
  readonly #parser = createParser({
    maxBufferSize: maxChars,
    onEvent: ({ data, event }) => this.#takeText(data, event),
    onError: ({ type, line }) => {
      if (type === "max-buffer-size-exceeded") this.#takeBroken();
      // An error may come as a line of JSON between the events.
      else if (line?.startsWith("{") === true) this.#takeText(line, undefined);
    },
  });

  constructor({ body }: Response, stream: WholeStream, wanted: Wanted) {
    this.#text = body === null ? null : new BodyText(body);
    this.#stream = stream;
    this.#wanted = wanted;
  }

  /** Reads until there are frames, or, where no stream is wanted, to the end. */
  async begin(): Promise<string[]> {
    const first = (await this.#text?.firstCharacter()) ?? "";
    if (first === "<") this.#refuse();
    else if (first === "{" || first === "[") this.#takeBody((await this.#text?.rest(maxChars)) ?? "");
    const frames = this.#stream.frames();
    while (!this.#stream.isOver && (frames.length === 0 || !this.#wanted.streams)) {
      await this.#advance();
      frames.push(...this.#stream.frames());
    }
    if (this.#stream.isOver) this.#text?.leave();
    return frames;
  }

  framesFrom(begun: readonly string[]): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder();
    let frames = begun;
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          while (frames.length === 0 && !this.#stream.isOver) {
            await this.#advance();
            frames = this.#stream.frames();
          }
          if (frames.length > 0) {
            controller.enqueue(encoder.encode(frames.map((frame) => `data: ${frame}\n\n`).join("")));
            frames = [];
          }
          if (!this.#stream.isOver) return;
          controller.close();
          this.#text?.leave();
        },
        cancel: () => this.#text?.leave(),
      },
      { highWaterMark: 0 },
    );
  }

  async #advance(): Promise<void> {
    const { isComplete } = this.#stream;
    let text: string | null;
    try {
      text = (await this.#text?.next(this.#patienceMs())) ?? null;
    } catch (error) {
      this.#stream.end(false);
      if (this.#stream.isOver) return;
      throw error;
    }
    if (text === null) {
      // The last event may lack its empty line.
      this.#feed("\n\n");
      this.#stream.end(true);
    } else if (text !== "") this.#feed(text);
    else if (isComplete) this.#stream.end(false);
  }

  /** null: for as long as the turn waits. */
  #patienceMs(): number | null {
    if (!this.#stream.isComplete) {
      this.#waitsUntil = null;
      return null;
    }
    const now = performance.now();
    this.#waitsUntil ??= now + Math.min(behindFinishMs, this.#wanted.remainingMs() / 2);
    return Math.max(0, this.#waitsUntil - now);
  }

  #feed(text: string): void {
    if (this.#stream.isOver) return;
    // Without the empty line that some leave out, a record would wait for the end of the body. No JSON goes on so.
    const apart = text.replace(/\}(\r\n|\n|\r)(?=data: ?[{[])/g, "}$1\n");
    this.#parser.feed(this.#endsRecord && /^data: ?[{[]/.test(text) ? `\n${apart}` : apart);
    this.#endsRecord = /\}(?:\r\n|\n|\r)$/.test(text);
  }

  /** A body that is JSON, or lines of it. */
  #takeBody(text: string): void {
    const body = parseJson(text);
    if (isObject(body)) {
      const isReply = Array.isArray(body["choices"]) || Array.isArray(body["output"]);
      if (errorIn(body) !== null) this.#takeRecord(body, undefined);
      else if (isReply) this.#stream.takeWhole(body);
      else this.#refuse();
      return;
    }
    if (Array.isArray(body)) for (const record of body.filter(isObject)) this.#takeRecord(record, undefined);
    else for (const line of text.split(/\r\n|\r|\n/)) this.#takeText(line.replace(/^data:/, ""), undefined);
    this.#stream.end(true);
  }

  #takeText(data: string, event: string | undefined): void {
    if (this.#stream.isOver) return;
    const text = data.trim();
    if (/^"?\[?DONE\]?"?$/i.test(text)) {
      this.#stream.done();
      return;
    }
    const value = parseJson(text);
    if (value === undefined && text.includes("\n")) {
      // Events without an empty line between them.
      for (const line of text.split("\n")) this.#takeText(line, event);
    } else if (value === undefined && /^[{[]/.test(text)) this.#takeBroken();
    // Anything else that is no object tells nothing: "ping", null.
    else
      for (const record of (Array.isArray(value) ? value : [value]).filter(isObject)) this.#takeRecord(record, event);
  }

  #takeRecord(record: JsonObject, event: string | undefined): void {
    const type = stringOrNull(record["type"]) ?? event;
    if (arrayOrEmpty(record["choices"]).length > 0 || type?.startsWith("response.") === true) this.#wanted.onLife();
    this.#stream.take(record, event);
  }

  /** Some of the reply may have been in it. */
  #takeBroken(): void {
    this.#stream.take({ error: cutOff }, undefined);
  }

  #refuse(): void {
    this.#stream.take({ error: notOpenAI }, undefined);
  }
}

/** The frames of a whole stream, as the one object that was asked for. */
function wholeOf(frames: readonly string[], api: Wanted["api"]): JsonObject {
  const records = frames.map(parseJson).filter(isObject);
  if (api === "responses") return objectOrEmpty(records.at(-1)?.["response"]);
  let content = "";
  let reasoning = "";
  let finish_reason: unknown = null;
  const calls: { id: unknown; name: string; args: string }[] = [];
  for (const record of records) {
    const choice = objectOrEmpty(arrayOrEmpty(record["choices"])[0]);
    const delta = objectOrEmpty(choice["delta"]);
    content += stringOrNull(delta["content"]) ?? "";
    reasoning += stringOrNull(delta["reasoning_content"]) ?? "";
    finish_reason = choice["finish_reason"] ?? finish_reason;
    for (const piece of arrayOrEmpty(delta["tool_calls"]).filter(isObject)) {
      const call = (calls[Number(piece["index"])] ??= { id: piece["id"], name: "", args: "" });
      const given = objectOrEmpty(piece["function"]);
      call.name += stringOrNull(given["name"]) ?? "";
      call.args += stringOrNull(given["arguments"]) ?? "";
    }
  }
  const tool_calls = calls.map(({ id, name, args }) => ({ id, type: "function", function: { name, arguments: args } }));
  const message = {
    role: "assistant",
    content,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    ...(tool_calls.length === 0 ? {} : { tool_calls }),
  };
  const last = records.at(-1) ?? {};
  return { ...last, object: "chat.completion", choices: [{ index: 0, message, finish_reason }] };
}
