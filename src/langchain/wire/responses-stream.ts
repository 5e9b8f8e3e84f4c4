import {
  arrayOrEmpty,
  isObject,
  objectOrEmpty,
  stringOrNull,
  type JsonObject,
} from "../../conversation/message/json.ts";
import { cutOff, errorIn, failed, providerError, refused, type ProviderError } from "./provider-error.ts";
import type { WholeStream } from "./records.ts";
import { responsesUsage } from "./usage.ts";

/** A stream of the Responses API, which ends with its first of completed, incomplete and failed. */
export class ResponsesStream implements WholeStream {
  error: ProviderError | null = null;
  isOver = false;
  readonly isComplete = false;
  #frames: string[] = [];
  /** The parts whose text came in deltas. */
  readonly #said = new Set<string>();
  /** Servers count their parts in one way in deltas and in another at the end, so what was said counts too. */
  #text = "";
  #refused = false;

  frames(): string[] {
    const frames = this.#frames;
    this.#frames = [];
    return frames;
  }

  takeWhole(body: JsonObject): void {
    const type = body["status"] === "incomplete" ? "response.incomplete" : "response.completed";
    this.#emit({ type: "response.created", response: body });
    this.take({ type, response: body }, undefined);
  }

  take(record: JsonObject, event: string | undefined): void {
    if (this.isOver) return;
    const type = stringOrNull(record["type"]) ?? event;
    const error = type === "error" || event === "error" ? providerError(record) : errorIn(record);
    if (error !== null) {
      this.#fail(error);
      return;
    }
    switch (type) {
      case undefined:
        return;
      case "response.output_text.delta":
        this.#hear(record);
        break;
      case "response.output_text.done":
      case "response.refusal.done":
        // Some servers give the text of a part at its end only.
        this.#say(record, type === "response.refusal.done" ? record["refusal"] : record["text"]);
        if (type === "response.refusal.done") this.#refused = true;
        return;
      case "response.refusal.delta":
        this.#refused = true;
        this.#hear(record);
        this.#emit({ ...record, type: "response.output_text.delta" });
        return;
      case "response.completed":
      case "response.incomplete":
        this.#complete(record, type);
        return;
      case "response.failed":
      case "response.cancelled":
        this.#fail(failureOf(objectOrEmpty(record["response"])));
        return;
    }
    this.#emit({ ...record, type });
  }

  done(): void {
    this.end(true);
  }

  end(clean: boolean): void {
    if (this.isOver) return;
    if (this.#refused) this.#fail(refused);
    else if (clean) this.#fail(cutOff);
  }

  #complete(record: JsonObject, type: string): void {
    const response = normalisedResponse(objectOrEmpty(record["response"]));
    if (response["status"] === "failed" || response["status"] === "cancelled" || isObject(response["error"])) {
      this.#fail(failureOf(response));
      return;
    }
    const parts: { readonly place: JsonObject; readonly text: string }[] = [];
    for (const [output_index, item] of arrayOrEmpty(response["output"]).entries()) {
      for (const [content_index, part] of arrayOrEmpty(objectOrEmpty(item)["content"]).entries()) {
        if (!isObject(part)) continue;
        const refusal = stringOrNull(part["refusal"]);
        if (refusal !== null) this.#refused = true;
        const text = refusal ?? (part["type"] === "output_text" ? stringOrNull(part["text"]) : null);
        if (text !== null) parts.push({ place: { output_index, content_index }, text });
      }
    }
    const whole = parts.map(({ text }) => text).join("");
    if (this.#text !== "" && whole.startsWith(this.#text))
      this.#emitText(parts.at(-1)?.place ?? {}, whole.slice(this.#text.length));
    else for (const { place, text } of parts) this.#say(place, text);
    if (this.#refused) {
      this.#fail(refused);
      return;
    }
    this.isOver = true;
    this.#emit({ ...record, type, response });
  }

  #say(place: JsonObject, text: unknown): void {
    const part = partOf(place);
    if (typeof text !== "string" || text === "" || this.#said.has(part) || this.#text.endsWith(text)) return;
    this.#said.add(part);
    this.#emitText(place, text);
  }

  #emitText({ output_index = 0, content_index = 0 }: JsonObject, delta: string): void {
    if (delta === "") return;
    this.#text += delta;
    this.#emit({ type: "response.output_text.delta", output_index, content_index, delta });
  }

  #hear(record: JsonObject): void {
    this.#said.add(partOf(record));
    this.#text += stringOrNull(record["delta"]) ?? "";
  }

  #emit(record: JsonObject): void {
    this.#frames.push(JSON.stringify(record));
  }

  #fail(error: ProviderError): void {
    this.isOver = true;
    this.error = error;
    this.#frames.push(JSON.stringify({ error }));
  }
}

function partOf({ output_index = 0, content_index = 0 }: JsonObject): string {
  return `${String(output_index)}:${String(content_index)}`;
}

function failureOf(response: JsonObject): ProviderError {
  const { error } = response;
  if (isObject(error)) return providerError({ error });
  return response["status"] === "cancelled" ? cutOff : failed("server_error", 500);
}

/** With what LangChain reads without looking whether it is there, and a usage that adds up. */
export function normalisedResponse(response: JsonObject): JsonObject {
  const output = arrayOrEmpty(response["output"])
    .filter(isObject)
    .map((item) =>
      item["type"] !== "message"
        ? item
        : {
            ...item,
            content: arrayOrEmpty(item["content"])
              .filter(isObject)
              .map((part) => ({ ...part, annotations: arrayOrEmpty(part["annotations"]) })),
          },
    );
  return { ...response, output, usage: responsesUsage(response["usage"]) };
}
