// Its types are those of the package: they name none of LangChain's, which not every program's compiler takes.

import { isObject, type JsonObject } from "../../conversation/message/json.ts";
import { mcpProblems, type McpOptions } from "../mcp/server-options.ts";
import type { ChatModel } from "../models/custom-model.ts";
import { defaultAgentLimits, type AgentLimits } from "./limits.ts";

/**
 * A LangChain tool of the program that uses Parley as a library, as far as its type is looked at: the program may have
 * another copy of @langchain/core than we have, and compile more strictly than its types allow.
 */
export interface Tool {
  name: string;
  description: string;
  invoke(...args: never[]): Promise<unknown>;
}

/** A zod object, or a JSON Schema of an object, as far as its type is looked at. */
export type ResponseSchema = object;

/** A LangChain Runnable of the program, as far as its type is looked at. */
export interface Runnable {
  invoke(...args: never[]): Promise<unknown>;
  stream(...args: never[]): Promise<unknown>;
}

/** An agent of the program that uses Parley as a library, or of AGENTS_FILE. */
export type AgentOptions = ModelAgentOptions | FlowOptions;

interface NamedOptions {
  readonly description?: string | undefined;
  /** Of sessions that have none of their own. */
  readonly instructions?: string | undefined;
}

type Limits<Name extends keyof AgentLimits> = { readonly [Key in Name]?: AgentLimits[Key] | undefined };

/** A flow of the program's own: it asks its models and runs its tools itself. */
export type FlowOptions = NamedOptions & {
  readonly limits?: Limits<(typeof flowLimits)[number]> | undefined;
} & (
    | {
        /** A compiled LangGraph graph whose state has `messages`, without a checkpointer. */
        readonly graph: Runnable;
      }
    | {
        /** Takes messages, gives a message or a text. */
        readonly runnable: Runnable;
      }
  );

/** What can be held of a flow from outside. */
const flowLimits = ["modelCalls", "toolCalls", "runTimeoutMs", "resultBytes"] as const;

/** A model with tools. */
export interface ModelAgentOptions extends McpOptions, NamedOptions {
  /** "provider:name", "offline", one of customModels, or a LangChain chat model. */
  readonly model: string | ChatModel;
  /**
   * LangChain tools, and names of the servers' tools ("<server>__<tool>", "*" for any text). Left out: all of the servers'.
   */
  readonly tools?: readonly (Tool | string)[] | undefined;
  readonly limits?: Limits<keyof AgentLimits> | undefined;
  /** Whether a page may give it tools of its own, where CLIENT_TOOLS is on. */
  readonly clientTools?: boolean | undefined;
  /**
   * The schema of the object that each reply is to be: a zod object, or a JSON Schema whose type is object. The model must
   * take one: OpenAI's `response_format`, Anthropic's `output_config`, Google's `responseSchema`.
   */
  readonly responseFormat?: ResponseSchema | undefined;
}

const isText = (value: unknown): boolean => value === undefined || typeof value === "string";
const options = new Set([
  ...["model", "description", "instructions", "tools", "limits", "clientTools"],
  ...["mcpServers", "approvals", "pins", "responseFormat"],
]);
const agentName = /^[A-Za-z0-9._-]{1,64}$/;
/** What OpenAI takes; the others take more. */
const toolName = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * What is wrong with the option `agents`, each with its place in it. `isModelName`: whether there can be a model of the
 * name; `modelForm` says what a name must be.
 */
export function agentProblems(
  agents: JsonObject,
  isModelName: (name: string) => boolean,
  modelForm: string,
): readonly string[] {
  return Object.entries(agents).flatMap(([name, agent]) => {
    const at = `agents.${name}`;
    if (!agentName.test(name)) return [`${at}: a name has letters, digits, ".", "_" and "-", at most 64`];
    if (!isObject(agent)) return [`${at} must be an object with model, instructions, tools, …`];
    if ("graph" in agent || "runnable" in agent) return flowProblems(at, agent);
    return [
      ...Object.keys(agent).flatMap((key) => (options.has(key) ? [] : [`${at}.${key} is not known`])),
      ...modelProblems(`${at}.model`, agent["model"], isModelName, modelForm),
      ...textProblems(at, agent),
      ...toolProblems(`${at}.tools`, agent["tools"]),
      ...mcpProblems(at, agent),
      ...limitProblems(`${at}.limits`, agent["limits"]),
      ...flagProblems(`${at}.clientTools`, agent["clientTools"]),
      ...formatProblems(`${at}.responseFormat`, agent["responseFormat"]),
    ];
  });
}

function flagProblems(at: string, flag: unknown): readonly string[] {
  return flag === undefined || typeof flag === "boolean" ? [] : [`${at} must be true or false`];
}

/** The names that JSON Schema has for types. */
const jsonTypes = new Set(["object", "array", "string", "number", "integer", "boolean", "null"]);

function formatProblems(at: string, format: unknown): readonly string[] {
  if (format === undefined || isZodObject(format)) return [];
  if (!isObject(format) || format["type"] !== "object" || !isObject(format["properties"]))
    return [`${at} must be a zod object, or a JSON Schema with "type": "object" and properties`];
  const { properties, required = [] } = format;
  const names = Object.keys(properties);
  const listed: readonly unknown[] = Array.isArray(required) ? required : [required];
  const missing = listed.find((name) => typeof name !== "string" || !names.includes(name));
  return [
    ...(missing === undefined
      ? []
      : [`${at}.required names ${JSON.stringify(missing)}, which is none of its properties`]),
    ...names.flatMap((name) => {
      const property = properties[name];
      const types = isObject(property) ? [property["type"] ?? []].flat() : [property];
      const wrong = types.find((type) => typeof type !== "string" || !jsonTypes.has(type));
      return wrong === undefined
        ? []
        : [`${at}.properties.${name} is no JSON Schema: ${JSON.stringify(wrong)} is no type`];
    }),
  ];
}

/** Of zod 3 or 4. */
function isZodObject(value: unknown): boolean {
  if (!isObject(value) || typeof value["safeParse"] !== "function") return false;
  const { type, typeName } = { ...(isObject(value["_def"]) ? value["_def"] : {}) } as JsonObject;
  return type === "object" || typeName === "ZodObject";
}

/** Not the least part of it is left out in silence: a graph does itself what these options would say. */
function flowProblems(at: string, agent: JsonObject): readonly string[] {
  const kind = "graph" in agent ? "graph" : "runnable";
  const { [kind]: runs, limits } = agent;
  const place = `${at}.${kind}`;
  const known = new Set([kind, "description", "instructions", "limits"]);
  const held: readonly string[] = flowLimits;
  const unheld = Object.keys(isObject(limits) ? limits : {}).filter(
    (name) => Object.hasOwn(defaultAgentLimits, name) && !held.includes(name),
  );
  return [
    ...Object.keys(agent).flatMap((key) => (known.has(key) ? [] : [`${at}.${key} has no place beside ${kind}`])),
    ...(kind === "graph" ? graphProblems(place, runs) : runnableProblems(place, runs)),
    ...textProblems(at, agent),
    ...limitProblems(`${at}.limits`, limits),
    ...unheld.map((name) => `${at}.limits.${name} has no place beside ${kind}: it runs its tools itself`),
  ];
}

function graphProblems(place: string, graph: unknown): readonly string[] {
  if (!isRunnable(graph) || graph["lg_is_pregel"] !== true)
    return [`${place} must be a compiled LangGraph graph (of createAgent's agent: its graph)`];
  const { channels, checkpointer, interruptBefore, interruptAfter, nodes } = graph;
  const asks = Object.keys(isObject(nodes) ? nodes : {}).some((name) => name.startsWith("HumanInTheLoopMiddleware"));
  const waits = [interruptBefore, interruptAfter].some((one) => one === "*" || (Array.isArray(one) && one.length > 0));
  return [
    ...(isObject(channels) && Object.hasOwn(channels, "messages") ? [] : [`${place} must have a messages channel`]),
    ...(checkpointer === undefined || checkpointer === null || checkpointer === false
      ? []
      : [`${place} must be compiled without a checkpointer: its history is the session's`]),
    ...(waits
      ? [`${place} must have neither interruptBefore nor interruptAfter: its run cannot wait for an answer`]
      : []),
    ...(asks
      ? [`${place} must not have humanInTheLoopMiddleware: give its model and tools as an agent with approvals`]
      : []),
  ];
}

function runnableProblems(place: string, runnable: unknown): readonly string[] {
  if (!isRunnable(runnable)) return [`${place} must be a LangChain Runnable`];
  return runnable["lg_is_pregel"] === true ? [`${place} is a LangGraph graph: give it as graph`] : [];
}

function isRunnable(value: unknown): value is JsonObject {
  return isObject(value) && value["lc_runnable"] === true && "invoke" in value && "stream" in value;
}

function textProblems(at: string, agent: JsonObject): readonly string[] {
  return ["description", "instructions"].flatMap((key) => (isText(agent[key]) ? [] : [`${at}.${key} must be a text`]));
}

/** What is no name of a model would fail with each reply. */
function modelProblems(at: string, model: unknown, isName: (name: string) => boolean, form: string): readonly string[] {
  if (isObject(model) && "generatePrompt" in model && "_llmType" in model) return [];
  if (typeof model !== "string" || model === "" || model.startsWith("agent:"))
    return [`${at} must be the name of a model, or a LangChain chat model`];
  return isName(model) ? [] : [`${at} ${form}`];
}

function toolProblems(at: string, tools: unknown): readonly string[] {
  if (tools === undefined) return [];
  if (!Array.isArray(tools)) return [`${at} must be a list of LangChain tools and names of tools`];
  const names = new Set<unknown>();
  return tools.flatMap((tool: unknown, i) => {
    const where = `${at}[${i}]`;
    if (typeof tool === "string") return tool === "" ? [`${where} must not be empty`] : [];
    if (!isObject(tool) || typeof tool["invoke"] !== "function") return [`${where} must be a LangChain tool`];
    const { name } = tool;
    if (typeof name !== "string" || !toolName.test(name))
      return [`${where}.name must have letters, digits, "_" and "-" only, at most 64`];
    const isTwice = names.has(name);
    names.add(name);
    return [
      ...(isTwice ? [`${where}: there is another tool of the name "${name}"`] : []),
      // A call's answer is no reply: the run would end without one.
      ...(tool["returnDirect"] === true ? [`${where} ("${name}") must not have returnDirect`] : []),
    ];
  });
}

function limitProblems(at: string, limits: unknown): readonly string[] {
  if (limits === undefined) return [];
  if (!isObject(limits)) return [`${at} must be an object of numbers`];
  return Object.entries(limits).flatMap(([name, value]) => {
    if (!Object.hasOwn(defaultAgentLimits, name)) return [`${at}.${name} is not known`];
    if (value === undefined || (name === "runTimeoutMs" && value === null)) return [];
    const isGood = Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) < 2 ** 31;
    return isGood ? [] : [`${at}.${name} must be a whole number from 1 to 2147483647`];
  });
}
