import { isObject, parseJson, type JsonObject } from "../../conversation/message/json.ts";
import { joinedTurns, type Said } from "../history/joined-turns.ts";
import type { ProviderError } from "./provider-error.ts";

/** A way to ask again without what a server has refused. */
export interface Adaptation {
  /** What the words of an error name it by. */
  readonly names: RegExp;
  /** Chat templates refuse it: llama.cpp says that with 500, LM Studio in place of a stream's first record. */
  readonly inTemplate?: true;
  /** null: there is nothing of it in the request. */
  readonly apply: (body: JsonObject) => JsonObject | null;
}

/**
 * What servers are known to refuse, in the order in which it is looked for. Their words are those of OpenAI, Azure, vLLM,
 * Mistral (FastAPI's validator), DeepSeek, Groq, Cerebras, Text Generation Inference and chat templates.
 */
const adaptations: readonly Adaptation[] = [
  { names: /stream_options|include_usage/, apply: (body) => without(body, "stream_options") },
  { names: /use ['"`]?max_completion_tokens/i, apply: renamed("max_tokens", "max_completion_tokens") },
  { names: /max_completion_tokens/, apply: renamed("max_completion_tokens", "max_tokens") },
  { names: /\btemperature\b/i, apply: (body) => without(body, "temperature") },
  {
    inTemplate: true,
    names: /\bdeveloper\b|(?:unexpected|unknown|invalid|unsupported) (?:message )?role|messages?[[.]\S*role/i,
    apply: messages((message) => (message["role"] === "developer" ? { ...message, role: "system" } : message)),
  },
  // Gemma has no such role at all.
  {
    inTemplate: true,
    names:
      /(?:system|developer) (?:role|message|prompt|instruction)s?\b[^]{0,20}\b(?:not|unsupported)\b|not support ['"`]?system|(?:invalid|unknown|unexpected|unsupported)[^]{0,20}role[^]{0,5}system/i,
    apply: systemIntoUser,
  },
  // Of other programs' rows nothing is joined before (role-order.ts).
  {
    inTemplate: true,
    names: /\balternat(?:e|es|ing)\b|consecutive (?:user|assistant|messages|roles)|same role/i,
    apply: turnsJoined,
  },
  {
    // As a part of a message, or alone and quoted, so that a model's name or a tool's is none.
    names: /messages?\b[\w.[\]'"`]*['"`.\]]name\b|'messages', \d+,[^)]*'name'|property ['"`]name\b/i,
    apply: messages(withoutName),
  },
  {
    names:
      /content\b[^]{0,80}\b(?:must be|should be|valid|expected)[^]{0,20}(?:string|str)\b|(?:sequence|array|list)[^]{0,40}expected a string|expected (?:a )?string[^]{0,40}(?:sequence|array|list)/i,
    apply: messages(flatContent),
  },
];

/**
 * What this server has refused of requests for this model, remembered for as long as the process runs, so that a refusal
 * costs one request and not one a turn.
 */
export class Refusals {
  readonly #refused = new Set<Adaptation>();

  adapt(body: JsonObject): JsonObject {
    let adapted = body;
    for (const adaptation of this.#refused) adapted = adaptation.apply(adapted) ?? adapted;
    return adapted;
  }

  /** What may help against this error and was not `tried`, with the request as it then is; null: nothing. */
  answerTo(
    error: ProviderError,
    body: JsonObject,
    tried: ReadonlySet<Adaptation>,
  ): { readonly adaptation: Adaptation; readonly body: JsonObject } | null {
    // Nothing was generated, and nothing is to be paid: the request itself was refused.
    const isRefusal = error.status === 400 || error.status === 422;
    if (!isRefusal && error.status !== 500 && error.status !== null) return null;
    const words = wordsOf(error);
    for (const adaptation of adaptations) {
      if (!isRefusal && adaptation.inTemplate !== true) continue;
      if (tried.has(adaptation) || !adaptation.names.test(words)) continue;
      const adapted = adaptation.apply(body);
      if (adapted !== null) return { adaptation, body: adapted };
    }
    return null;
  }

  /** A request without it was taken. */
  remember(adaptations: Iterable<Adaptation>): void {
    for (const adaptation of adaptations) this.#refused.add(adaptation);
  }
}

function wordsOf({ param, code, message }: ProviderError): string {
  return [param, code, message].join("\n");
}

/** Whether `after` speaks of something else. Proxies write a request's id into the words. */
export function isAnotherRefusal(before: ProviderError, after: ProviderError): boolean {
  const [one, two] = [before, after].map((error) => wordsOf(error).replace(/\b(?=[\w-]*\d)[\w-]{8,}/g, ""));
  return one !== two;
}

/** The request's body; null where it is none of ours. */
export function bodyOf(init: RequestInit | undefined): JsonObject | null {
  const body = typeof init?.body === "string" ? parseJson(init.body) : null;
  return isObject(body) ? body : null;
}

function without(body: JsonObject, key: string): JsonObject | null {
  if (!(key in body)) return null;
  return Object.fromEntries(Object.entries(body).filter(([name]) => name !== key));
}

function renamed(from: string, to: string): Adaptation["apply"] {
  return (body) => {
    const rest = without(body, from);
    return rest === null ? null : { ...rest, [to]: body[from] };
  };
}

/** The messages are in `messages`, in the Responses API in `input`. */
function messages(change: (message: JsonObject) => JsonObject): Adaptation["apply"] {
  return (body) => {
    const key = Array.isArray(body["messages"]) ? "messages" : "input";
    const before: unknown = body[key];
    if (!Array.isArray(before)) return null;
    const after = before.map((message: unknown) => (isObject(message) ? change(message) : message));
    return after.every((message, index) => message === before[index]) ? null : { ...body, [key]: after };
  };
}

/** The name goes into the text of a user's message. In a reply the model would begin to write names too: there it goes. */
function withoutName(message: JsonObject): JsonObject {
  const { name, ...rest } = message;
  if (typeof name !== "string" || message["role"] === "tool" || message["role"] === "function") return message;
  if (message["role"] !== "user") return rest;
  const { content } = rest;
  if (typeof content === "string") return { ...rest, content: `${name}: ${content}` };
  return Array.isArray(content)
    ? { ...rest, content: [{ type: "text", text: `${name}:` }, ...(content as unknown[])] }
    : rest;
}

function flatContent(message: JsonObject): JsonObject {
  const { content } = message;
  if (!Array.isArray(content)) return message;
  const texts = content.map((part: unknown) =>
    isObject(part) && typeof part["text"] === "string" ? part["text"] : null,
  );
  return texts.includes(null) ? message : { ...message, content: texts.join("\n\n") };
}

function turnsJoined(body: JsonObject): JsonObject | null {
  const before = Array.isArray(body["messages"]) ? body["messages"].filter(isObject) : [];
  const after: JsonObject[] = [];
  for (const message of before) {
    const previous = after.at(-1);
    const joins =
      previous?.["role"] === message["role"] && isPlain(message) && previous !== undefined && isPlain(previous);
    if (joins) after[after.length - 1] = { role: message["role"], ...joinedTurns(previous, message) };
    else after.push(message);
  }
  return after.length === before.length ? null : { ...body, messages: after };
}

function isPlain(message: JsonObject): message is JsonObject & Said {
  const { role, content, tool_calls } = message;
  const isSaid = typeof content === "string" || (Array.isArray(content) && content.every(isObject));
  return isSaid && (role === "user" || role === "assistant") && tool_calls === undefined;
}

function systemIntoUser(body: JsonObject): JsonObject | null {
  const all = body["messages"];
  if (!Array.isArray(all)) return null;
  const list = all.filter(isObject).map(flatContent);
  const isSystem = ({ role }: JsonObject): boolean => role === "system" || role === "developer";
  const system = list.filter(isSystem).map(({ content }) => String(content));
  const rest = list.filter((message) => !isSystem(message));
  const first = rest.findIndex(({ role }) => role === "user");
  const user = rest[first];
  if (system.length === 0 || user === undefined) return null;
  const { content } = user;
  const lead = system.join("\n\n");
  const joined = Array.isArray(content)
    ? [{ type: "text", text: lead }, ...(content as unknown[])]
    : `${lead}\n\n${String(content)}`;
  return { ...body, messages: rest.with(first, { ...user, content: joined }) };
}
