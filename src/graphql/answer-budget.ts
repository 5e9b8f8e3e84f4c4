import {
  defaultFieldResolver,
  getNamedType,
  getNullableType,
  GraphQLID,
  GraphQLString,
  isListType,
  isObjectType,
} from "graphql";
import type { GraphQLField, GraphQLSchema } from "graphql";
import type { ParleyError } from "../conversation/errors.ts";
import type { Row } from "../conversation/message/message.ts";
import { tooComplex } from "./limits.ts";

/**
 * How much one answer may hold: of a query, a mutation, or one event of a subscription. limits-cost.ts bounds how many
 * values there are before they are read; how large they are is known only then. Both are counted where a value is given:
 * a page under twenty aliases is read once, but parsed and written twenty times.
 */
export class AnswerBudget {
  readonly #most: number;
  readonly #onExceeded: () => void;
  #read = 0;
  #made = 0;
  #exceeded = false;

  /** `onExceeded`: called once. */
  constructor(mostBytes: number, onExceeded: () => void) {
    this.#most = mostBytes;
    this.#onExceeded = onExceeded;
  }

  get most(): number {
    return this.#most;
  }

  /** As much again, for another event of the operation. */
  anew(): AnswerBudget {
    return new AnswerBudget(this.#most, this.#onExceeded);
  }

  /**
   * Of a page, before any of its rows is parsed.
   * @throws {ParleyError} TOO_COMPLEX
   */
  read(rows: readonly Row[]): void {
    for (const { raw } of rows) this.#read += textBytes(raw);
    if (this.#read > this.#most) this.#refuse();
  }

  /**
   * A page is read by itself whose rows hold about so many bytes: they count until it is here, so that others are not read
   * beside it for nothing.
   * @throws {ParleyError} TOO_COMPLEX
   */
  async expect<Page>(bytes: number, read: () => Promise<Page>): Promise<Page> {
    this.#read += bytes;
    if (this.#read > this.#most) this.#refuse();
    try {
      return await read();
    } finally {
      this.#read -= bytes;
    }
  }

  /** TOO_COMPLEX, or null: there is room for it. So do the others that count values. */
  text(text: string): ParleyError | null {
    return this.#make(textBytes(text));
  }

  /** `json`: the text as a JSON string. It counts as what it says. */
  written(json: string): ParleyError | null {
    return this.#make(writtenBytes(json));
  }

  json(value: unknown): ParleyError | null {
    return this.#make(jsonBytes(value));
  }

  /**
   * The items' brackets and names: rows may hold long lists of empty things. Promises, which are of as many ids as were
   * given, count for nothing: nobody would be there for those that fail.
   */
  list(items: readonly unknown[]): ParleyError | null {
    return items[0] instanceof Promise ? null : this.#make(items.length * itemBytes);
  }

  /** Once the answer is too large: nothing more is made of it. */
  get refusal(): ParleyError | null {
    return this.#made > this.#most ? this.#refusal() : null;
  }

  #make(bytes: number): ParleyError | null {
    this.#made += bytes;
    if (this.#made <= this.#most) return null;
    this.#tell();
    return this.#refusal();
  }

  #refuse(): never {
    this.#tell();
    throw this.#refusal();
  }

  #tell(): void {
    if (!this.#exceeded) this.#onExceeded();
    this.#exceeded = true;
  }

  #refusal(): ParleyError {
    const message = `The answer would hold more than ${this.#most} bytes. Ask for fewer messages or fields at a time.`;
    return tooComplex("answerBytes", message);
  }
}

const itemBytes = 64;
/** Of shorter ones the characters are taken for bytes, which costs nothing: they have three times as many at most. */
const shortText = 1024;

function textBytes(text: string): number {
  return text.length < shortText ? text.length : Buffer.byteLength(text);
}

/** textBytes() of what it says. */
function writtenBytes(json: string): number {
  let saved = 2; // the quotes
  for (let at = json.indexOf("\\"); at >= 0; at = json.indexOf("\\", at + 2)) {
    if (json[at + 1] === "u") return textBytes(String(JSON.parse(json)));
    saved += 1;
  }
  return json.length - saved < shortText ? json.length - saved : Buffer.byteLength(json) - saved;
}

/** About, and never more than its JSON. Not recursive: it may be nested as deep as JSON.parse takes it. */
function jsonBytes(value: unknown): number {
  let bytes = 0;
  const left: unknown[] = [value];
  while (left.length > 0) {
    const one = left.pop();
    bytes += 1;
    if (typeof one === "string") bytes += textBytes(one);
    else if (Array.isArray(one)) for (const item of one) left.push(item);
    else if (typeof one === "object" && one !== null) {
      for (const [key, item] of Object.entries(one)) {
        bytes += textBytes(key);
        left.push(item);
      }
    }
  }
  return bytes;
}

// Whoever executes an operation counts what the answer comes to hold: a compiled query in its completers, graphql-js in
// the resolvers of the fields that can be large, for it has no other place that knows the operation.
//
// No resolver throws: it returns a rejected promise. Where an item of a list throws, graphql-js and Yoga's executor drop the
// promises of the items before it, and each of those that is rejected later is an unhandled rejection, which ends a Node.js
// process. Promises of all items they await together.

type AnyField = GraphQLField<unknown, unknown>;
/** As much of a Context as is needed here. */
interface Counting {
  readonly answer?: AnswerBudget;
}
/** Why the value is too much; null: there is room for it. */
type Count = (answer: AnswerBudget, value: unknown) => ParleyError | null;

const own = new WeakMap<object, AnyField["resolve"]>();

/** A field's resolver without the counting; undefined: it is a property. */
export function uncountedResolver(field: AnyField): AnyField["resolve"] {
  return own.has(field) ? own.get(field) : field.resolve;
}

/** Changes the schema's fields. */
export function countFields(schema: GraphQLSchema): GraphQLSchema {
  for (const type of Object.values(schema.getTypeMap())) {
    // Types of the introspection are all schemas' together.
    if (!isObjectType(type) || type.name.startsWith("__")) continue;
    for (const field of Object.values(type.getFields())) {
      const count = counterOf(field);
      if (count !== null || field.resolve !== undefined) countField(field, count);
    }
  }
  return schema;
}

function counterOf({ type }: AnyField): Count | null {
  if (isListType(getNullableType(type))) return countList;
  const named = getNamedType(type);
  if (named === GraphQLString || named === GraphQLID) return countText;
  return named.name === "JSON" ? countJson : null;
}

const countText: Count = (answer, value) => (typeof value === "string" ? answer.text(value) : null);
const countJson: Count = (answer, value) => (value === null || value === undefined ? null : answer.json(value));
const countList: Count = (answer, value) => {
  if (!Array.isArray(value)) return null;
  return value.reduce<ParleyError | null>((refusal, item) => refusal ?? countText(answer, item), answer.list(value));
};

/** `count`: null where the value cannot be large. */
function countField(field: AnyField, count: Count | null): void {
  own.set(field, field.resolve);
  const { resolve = defaultFieldResolver } = field;
  field.resolve = (source, args, context, info) => {
    const answer = count === null ? undefined : (context as Counting).answer; // of all operations on this schema
    try {
      const value: unknown = resolve(source, args, context, info);
      if (count === null || answer === undefined) return value;
      if (value instanceof Promise) return value.then((settled: unknown) => counted(answer, settled, count));
      return counted(answer, value, count);
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
  };
}

function counted(answer: AnswerBudget, value: unknown, count: Count): unknown {
  const refusal = count(answer, value);
  if (refusal !== null) return Promise.reject(refusal);
  return count === countList && Array.isArray(value) ? taken(answer, value) : value;
}

/** The items, as long as the answer is not too large. Promises are begun already: all of them have to be awaited. */
function* taken(answer: AnswerBudget, items: readonly unknown[]): Generator {
  for (const item of items) {
    const refusal = item instanceof Promise ? null : answer.refusal;
    yield refusal === null ? item : Promise.reject(refusal);
    if (refusal !== null) return;
  }
}
