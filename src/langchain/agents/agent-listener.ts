import { randomUUID } from "node:crypto";

import type { HandleLLMNewTokenCallbackFields, NewTokenIndices } from "@langchain/core/callbacks/base";
import type { Serialized } from "@langchain/core/load/serializable";
import type { BaseMessage } from "@langchain/core/messages";
import type { LLMResult } from "@langchain/core/outputs";
import type { ChainValues } from "@langchain/core/utils/types";

import {
  arrayOrEmpty,
  isObject,
  objectOrEmpty,
  stringOrNull,
  type JsonObject,
} from "../../conversation/message/json.ts";
import type { TokenUsage } from "../../conversation/message/message.ts";
import { argsOf } from "../../conversation/part-log.ts";
import { Listener } from "../listener.ts";
import type { Generated } from "../reply-data.ts";

/** A call of a tool as its message has it. */
export interface AskedCall {
  /** The only one of its run. */
  readonly callId: string;
  readonly name: string;
  /** null: what the model wrote is no JSON object, as where its stream broke off. */
  readonly args: JsonObject | null;
  readonly argsText: string;
}

interface Writing {
  readonly callId: string;
  name: string;
  /** Its beginning has been told. */
  isTold: boolean;
  /** Not told yet. */
  text: string;
}

/** Hears the model of an agent in all its requests, and what its tools tell. What agents within it do is the affair of their tools. */
export class AgentListener extends Listener {
  /** Of the requests to the agent's own model. */
  readonly #own = new Set<string>();
  /** The calls of the message that is being made, by what its pieces tell them apart. */
  #writing = new Map<unknown, Writing>();
  #keyOf = callKeys();
  readonly #used = new Set<string>();
  /** The tools that run: the run id that LangChain gives them -> call id. */
  readonly #tools = new Map<string, string>();
  /** What runs for a tool: the tool itself, and what it calls. */
  readonly #withinTools = new Set<string>();
  #hasGap = false;

  override handleChatModelStart(
    _llm?: Serialized,
    _messages?: BaseMessage[][],
    runId = "",
    parentRunId = "",
    _extra?: Record<string, unknown>,
    tags: readonly string[] = [],
    metadata: Record<string, unknown> = {},
  ): void {
    if (isWithin(metadata) || this.#withinTools.has(parentRunId)) return;
    if (tags.some((tag) => tag === "nostream" || tag === "langsmith:nostream")) return;
    this.#own.add(runId);
    this.#writing = new Map();
    this.#keyOf = callKeys();
    this.generated = null;
    super.handleChatModelStart();
    // Only a step ends a message: where a graph asks its models one after another, what they say is one text.
    if (this.text === "") this.onPiece({ kind: "message" });
    else this.leaveGap();
  }

  /** Before what is said next. */
  protected leaveGap(): void {
    this.#hasGap = true;
  }

  /** Whether this request is to the agent's own model. */
  protected isOwn(runId: string): boolean {
    return this.#own.has(runId);
  }

  /** Of a tool that runs. */
  protected callIdOf(runId: string): string | undefined {
    return this.#tools.get(runId);
  }

  /** A message that was not heard while it was made. */
  protected adopt(generated: Generated): void {
    this.#writing = new Map();
    this.#keyOf = callKeys();
    this.generated = generated;
  }

  protected override say(text: string): void {
    const gap = this.#hasGap && text !== "" ? "\n\n" : "";
    if (text !== "") this.#hasGap = false;
    super.say(gap + text);
  }

  /** The text that the message which is being made has so far is that of a step. */
  endMessage(): void {
    this.text = "";
    this.#hasGap = false;
  }

  override handleLLMNewToken(
    token: string,
    indices: NewTokenIndices,
    runId: string,
    parentRunId?: string,
    tags?: string[],
    fields?: HandleLLMNewTokenCallbackFields,
  ): void {
    if (!this.#own.has(runId)) return;
    super.handleLLMNewToken(token, indices, runId, parentRunId, tags, fields);
    const chunk = objectOrEmpty(fields?.chunk);
    for (const piece of chunksOf(chunk["message"])) {
      const text = stringOrNull(piece["args"]) ?? "";
      const key = this.#keyOf(piece);
      if (this.#writing.has(key) || isCall(piece))
        this.#write(key, stringOrNull(piece["id"]), stringOrNull(piece["name"]), text);
    }
  }

  override handleLLMEnd(output: LLMResult, runId = ""): void {
    if (this.#own.has(runId)) super.handleLLMEnd(output);
  }

  override handleChainStart(_chain: Serialized, _inputs: ChainValues, runId: string, parentRunId = ""): void {
    if (this.#withinTools.has(parentRunId)) this.#withinTools.add(runId);
  }

  override handleToolStart(
    _tool: Serialized,
    _input: string,
    runId: string,
    _parentRunId?: string,
    _tags?: string[],
    metadata: Record<string, unknown> = {},
    _name?: string,
    callId?: string,
  ): Promise<void> | undefined {
    this.#withinTools.add(runId);
    if (callId !== undefined && !isWithin(metadata)) this.#tools.set(runId, callId);
    return undefined;
  }

  /** The ids of calls that the run has used. */
  get callIds(): readonly string[] {
    return [...this.#used];
  }

  /** It hears a run that has waited. */
  goOn(callIds: readonly string[], usage: TokenUsage | null): void {
    for (const id of callIds) this.#used.add(id);
    this.earlierUsage = usage;
  }

  /** What a tool tells by dispatchCustomEvent. */
  override handleCustomEvent(name: string, data: unknown, runId: string): void {
    const callId = this.#tools.get(runId);
    if (callId !== undefined) this.tellData(callId, name, data);
  }

  /** What a tool tells of how far it is; what is no JSON is not told. */
  tellData(callId: string, name: string, data: unknown): void {
    const text = jsonOf(data);
    if (text !== null) this.onPiece({ kind: "data", callId, name, data: JSON.parse(text) });
  }

  /** The calls of the message that is whole. Those that the model has not streamed are told now. */
  calls(): readonly AskedCall[] {
    // Safe: a message is an object, and which kind of message a provider makes of its reply is not known here.
    const message = objectOrEmpty(this.generated?.message);
    const chunks = chunksOf(message).filter(isCall);
    const keyOf = callKeys();
    const streamed = chunks.map((chunk) => ({ ...chunk, key: keyOf(chunk), text: stringOrNull(chunk["args"]) ?? "" }));
    const whole = arrayOrEmpty(message["tool_calls"]).filter(isObject);
    const broken = arrayOrEmpty(message["invalid_tool_calls"]).filter(isObject).filter(isCall);
    const unstreamed = [
      ...whole.map((call, i) => ({ ...call, key: `whole ${i}`, text: JSON.stringify(call["args"] ?? {}) })),
      ...broken.map((call, i) => ({ ...call, key: `broken ${i}`, text: stringOrNull(call["args"]) ?? "" })),
    ];
    // Where there are chunks, LangChain has mended what broke off: a tool would run with half of its arguments.
    return (streamed.length > 0 ? streamed : unstreamed).map((call: JsonObject & { key: unknown; text: string }) => {
      const { key, text } = call;
      const isNew = !this.#writing.has(key);
      const writing = this.#write(key, stringOrNull(call["id"]), stringOrNull(call["name"]), isNew ? text : "");
      this.#tell(writing);
      return { callId: writing.callId, name: writing.name, args: argsOf(text), argsText: text };
    });
  }

  #write(key: unknown, id: string | null, name: string | null, text: string): Writing {
    let writing = this.#writing.get(key);
    if (writing === undefined) {
      // Some models give none, or the same one to each.
      const callId = id !== null && id !== "" && !this.#used.has(id) ? id : `call_${randomUUID()}`;
      this.#used.add(callId);
      writing = { callId, name: "", isTold: false, text: "" };
      this.#writing.set(key, writing);
    }
    if (writing.name === "" && name !== null) writing.name = name;
    writing.text += text;
    if (writing.name !== "") this.#tell(writing);
    return writing;
  }

  #tell(writing: Writing): void {
    const { callId, name, isTold, text } = writing;
    if (!isTold) this.onPiece({ kind: "call", callId, name });
    if (text !== "") this.onPiece({ kind: "arguments", callId, text });
    writing.isTold = true;
    writing.text = "";
  }
}

/** Whether it happens in a graph within the agent's: its namespace names both. */
export function isWithin(metadata: Record<string, unknown>): boolean {
  return stringOrNull(metadata["langgraph_checkpoint_ns"])?.includes("|") ?? false;
}

/** Arguments alone are those of a tool that the provider calls itself: Anthropic streams them as it does a call's. */
function isCall({ id, name }: JsonObject): boolean {
  return [id, name].some((one) => typeof one === "string" && one !== "");
}

function chunksOf(message: unknown): readonly JsonObject[] {
  return arrayOrEmpty(objectOrEmpty(message)["tool_call_chunks"]).filter(isObject);
}

/**
 * Of each piece of a message's calls, asked in their order, the key of its call: as LangChain joins pieces. Some models give
 * each call the same index, or a piece that is a whole call neither index nor id.
 */
function callKeys(): (piece: JsonObject) => unknown {
  const ids = new Map<unknown, string>();
  let alone = 0;
  return (piece) => {
    const id = stringOrNull(piece["id"]);
    const place = piece["index"] ?? (id === "" ? null : id);
    if (place === null) return `alone ${(alone += 1)}`;
    if (id === null || id === "") return place;
    const first = ids.get(place) ?? id;
    ids.set(place, first);
    return id === first ? place : JSON.stringify([place, id]);
  };
}

function jsonOf(data: unknown): string | null {
  try {
    const json: unknown = JSON.stringify(data); // typed as a text, which it is not always
    return typeof json === "string" ? json : null;
  } catch {
    return null;
  }
}
