import {
  arrayOrEmpty,
  isObject,
  objectOrEmpty,
  stringOrNull,
  type JsonObject,
} from "../../conversation/message/json.ts";
import { cutOff, errorIn, failed, providerError, refused, type ProviderError } from "./provider-error.ts";
import type { WholeStream } from "./records.ts";
import { ToolCallPieces } from "./tool-calls.ts";
import { mergedUsage, type WireUsage } from "./usage.ts";

/** A reply with one of these is whole, and stays so whatever comes behind it. Any other word needs a proper end. */
const wholeReasons = new Set([
  ...["stop", "eos", "eos_token", "end_turn", "stop_sequence"],
  ...["length", "max_tokens", "model_length", "model_context_window_exceeded"],
  ...["content_filter", "safety", "sensitive"],
  ...["tool_calls", "function_call", "tool_use"],
]);
const failedReasons = new Set(["error", "insufficient_system_resource", "network_error", "abort"]);

/**
 * A stream of chat completions, made strict: each chunk has one choice with a delta of the role assistant and text for
 * content; one chunk with the finish reason follows, one with the usage, and `[DONE]`.
 */
export class ChatStream implements WholeStream {
  error: ProviderError | null = null;
  isOver = false;
  #frames: string[] = [];
  readonly #calls = new ToolCallPieces();
  #head: JsonObject = {};
  #usage: WireUsage | null = null;
  /** Of the one choice that is read: no more than one was asked for. */
  #index: number | null = null;
  #finish: string | null = null;
  /** The server says "not finished yet" in some way, so that its finish reason means what it says. Gemini's endpoint gives "stop" with each chunk. */
  #tellsGoingOn = false;
  #tellsNull = false;
  #finishedEmpty = false;
  #textBehindFinish = false;
  #spoke = false;
  /** What came in messages for deltas; "" where there were deltas. */
  #messageText = "";
  #refused = false;

  get isComplete(): boolean {
    return (
      this.#finish !== null &&
      this.#tellsGoingOn &&
      !this.#textBehindFinish &&
      wholeReasons.has(this.#finish.toLowerCase())
    );
  }

  frames(): string[] {
    const frames = this.#frames;
    this.#frames = [];
    return frames;
  }

  takeWhole(body: JsonObject): void {
    this.#tellsGoingOn = true;
    this.take(body, undefined);
    if (this.#index !== null) this.#finish ??= "stop";
    this.done();
  }

  take(record: JsonObject, event: string | undefined): void {
    if (this.isOver) return;
    const choice = this.#choiceOf(record);
    const error = event === "error" ? providerError(record) : (errorIn(record) ?? errorIn(objectOrEmpty(choice)));
    if (error !== null) {
      // What goes wrong behind a whole reply takes nothing from it.
      if (!this.isComplete) this.#fail(error);
      return;
    }
    for (const key of ["id", "object", "created", "model", "system_fingerprint", "service_tier"]) {
      // Azure's notes of its filter have empty ones.
      if (record[key] !== undefined && record[key] !== null && record[key] !== "") {
        this.#head = { ...this.#head, [key]: record[key] };
      }
    }
    for (const usage of [record["usage"], objectOrEmpty(record["x_groq"])["usage"], choice?.["usage"]]) {
      this.#usage = mergedUsage(this.#usage, usage);
    }
    if (choice !== null) this.#takeChoice(choice);
  }

  done(): void {
    if (this.isOver) return;
    if (this.#finish === null && this.#finishedEmpty) this.#finish = "stop";
    this.end(true);
  }

  end(clean: boolean): void {
    if (this.isOver) return;
    if (this.#refused) this.#fail(refused);
    else if (this.#finish !== null && failedReasons.has(this.#finish.toLowerCase()))
      this.#fail(failureOf(this.#finish));
    else if (this.isComplete || (clean && this.#finish !== null)) this.#complete(this.#finish ?? "stop");
    else if (clean) this.#fail(cutOff);
  }

  #choiceOf(record: JsonObject): JsonObject | null {
    const choices = arrayOrEmpty(record["choices"]).filter(isObject);
    const indexOf = (choice: JsonObject): number => (typeof choice["index"] === "number" ? choice["index"] : 0);
    const first = choices[0];
    if (first === undefined) return null;
    this.#index ??= indexOf(first);
    return choices.find((choice) => indexOf(choice) === this.#index) ?? null;
  }

  #takeChoice(choice: JsonObject): void {
    const delta = this.#deltaOf(choice);
    const { text, reasoning, refusal } = partsOf(delta["content"]);
    const refusing = refusal + (stringOrNull(delta["refusal"]) ?? "");
    if (refusing !== "") this.#refused = true;
    const thought = [reasoning, stringOrNull(delta["reasoning_content"]) ?? stringOrNull(delta["reasoning"])].join("");
    const pieces = delta["tool_calls"];
    const calls = pieces === undefined || pieces === null ? [] : this.#calls.normalised(pieces);
    const content = text + refusing;
    const says = content !== "" || calls.length > 0 || isObject(delta["function_call"]);
    if (says && this.#finish !== null) this.#textBehindFinish = true;
    this.#spoke ||= says;
    this.#takeFinish(choice["finish_reason"] ?? choice["finishReason"], says);
    // A chunk that says nothing is still a sign of life, up to the finish reason.
    if (!says && thought === "" && this.#finish !== null) return;
    this.#emit({
      role: "assistant",
      content,
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
      ...(isObject(delta["function_call"]) ? { function_call: delta["function_call"] } : {}),
      ...(isObject(delta["audio"]) ? { audio: delta["audio"] } : {}),
      ...(thought === "" ? {} : { reasoning_content: thought }),
    });
  }

  /** Some put a whole message, or the text of the older completions, where the delta belongs. */
  #deltaOf(choice: JsonObject): JsonObject {
    if (isObject(choice["delta"])) return choice["delta"];
    if (isObject(choice["message"])) return this.#deltaOfMessage(choice["message"]);
    return typeof choice["text"] === "string" ? { content: choice["text"] } : {};
  }

  /** Behind deltas it repeats them; else it is the next piece, or all up to here. */
  #deltaOfMessage(message: JsonObject): JsonObject {
    const before = this.#messageText;
    if (this.#spoke && before === "") return {};
    const { text } = partsOf(message["content"]);
    const repeats = before !== "" && text.startsWith(before);
    this.#messageText = repeats ? text : before + text;
    return before === "" ? message : { content: repeats ? text.slice(before.length) : text };
  }

  #takeFinish(reason: unknown, says: boolean): void {
    if (typeof reason !== "string" || reason === "null") {
      if (this.#finish === null) {
        this.#tellsGoingOn = true;
        this.#tellsNull = true;
      }
    } else if (reason === "") {
      // With every chunk it means "not yet" (Ollama); where the others had null it is the end, in no words.
      if (this.#tellsNull && !says) this.#finishedEmpty = true;
      else this.#tellsGoingOn = true;
    } else if (!this.isComplete || wholeReasons.has(reason.toLowerCase())) {
      if (!says) this.#tellsGoingOn = true;
      this.#finish = reason;
    }
  }

  #emit(delta: JsonObject, finish_reason: string | null = null): void {
    this.#frames.push(JSON.stringify({ ...this.#head, choices: [{ index: 0, delta, finish_reason }] }));
  }

  #complete(reason: string): void {
    this.isOver = true;
    this.#emit({ role: "assistant", content: "" }, reason);
    if (this.#usage !== null) this.#frames.push(JSON.stringify({ ...this.#head, choices: [], usage: this.#usage }));
    this.#frames.push("[DONE]");
  }

  #fail(error: ProviderError): void {
    this.isOver = true;
    this.error = error;
    this.#frames.push(JSON.stringify({ error }));
  }
}

function failureOf(reason: string): ProviderError {
  return reason.toLowerCase() === "abort" ? cutOff : failed("server_error", 500);
}

interface Parts {
  readonly text: string;
  readonly reasoning: string;
  readonly refusal: string;
}

/** Mistral's models that think, and servers in front of others, send content as a list of parts. */
function partsOf(content: unknown): Parts {
  if (typeof content === "string") return { text: content, reasoning: "", refusal: "" };
  const parts = Array.isArray(content) ? content : isObject(content) ? [content] : [];
  let text = "";
  let reasoning = "";
  let refusal = "";
  for (const part of parts) {
    if (typeof part === "string") text += part;
    if (!isObject(part)) continue;
    const words = stringOrNull(part["text"]) ?? stringOrNull(part["content"]) ?? "";
    if (part["type"] === "thinking" || part["type"] === "reasoning") {
      const inner = part["thinking"] ?? part["reasoning"];
      reasoning += inner === undefined ? words : partsOf(inner).text;
    } else if (part["type"] === "refusal") refusal += stringOrNull(part["refusal"]) ?? words;
    else text += words;
  }
  return { text, reasoning, refusal };
}
