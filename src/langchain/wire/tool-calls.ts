import { randomUUID } from "node:crypto";

import { isObject, objectOrEmpty, stringOrNull, type JsonObject } from "../../conversation/message/json.ts";

/** The pieces of tool calls as OpenAI streams them: LangChain joins pieces by their index, and their names as text. */
export class ToolCallPieces {
  readonly #calls: { id: string; name: string }[] = [];
  /** Of each index that was given, the one that its call has here. */
  readonly #indexes = new Map<number, number>();

  normalised(pieces: unknown): JsonObject[] {
    return (Array.isArray(pieces) ? pieces : [pieces]).filter(isObject).map((piece) => this.#normalised(piece));
  }

  #normalised(piece: JsonObject): JsonObject {
    const given = objectOrEmpty(piece["function"]);
    const id = stringOrNull(piece["id"]);
    const name = stringOrNull(given["name"]);
    const index = this.#indexOf(piece["index"], id, name);
    const args = given["arguments"];
    const known = this.#calls[index];
    const isNew = known === undefined;
    // An answer names its call by the id.
    if (isNew) this.#calls[index] = { id: id ?? `call_${randomUUID()}`, name: name ?? "" };
    const call = this.#calls[index];
    // Some repeat the name with each piece.
    const newName = isNew || known.name === "" ? name : name === known.name ? null : name;
    if (call !== undefined && call.name === "" && name !== null) call.name = name;
    return {
      index,
      type: "function",
      ...(isNew && call !== undefined ? { id: call.id } : {}),
      function: {
        ...(newName === null ? {} : { name: newName }),
        arguments: typeof args === "string" ? args : isObject(args) ? JSON.stringify(args) : "",
      },
    };
  }

  #indexOf(given: unknown, id: string | null, name: string | null): number {
    const next = this.#calls.length;
    if (typeof given === "number") {
      const index = this.#indexes.get(given);
      // Gemini's endpoint gives all calls the index 0, each with an id and a name of its own.
      const isAnother = index !== undefined && id !== null && name !== null && id !== this.#calls[index]?.id;
      if (index !== undefined && !isAnother) return index;
      this.#indexes.set(given, next);
      return next;
    }
    const byId = id === null ? -1 : this.#calls.findIndex((call) => call.id === id);
    if (byId >= 0) return byId;
    // Without an index an id or another name begins a call; anything else goes on with the last one.
    const begins = id !== null || next === 0 || (name !== null && name !== this.#calls[next - 1]?.name);
    return begins ? next : next - 1;
  }
}
