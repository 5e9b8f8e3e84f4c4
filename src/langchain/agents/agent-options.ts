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

/** An agent of the program that uses Parley as a library, or of AGENTS_FILE. */
export interface AgentOptions extends McpOptions {
  /** "provider:name", "offline", one of customModels, or a LangChain chat model. */
  readonly model: string | ChatModel;
  readonly description?: string | undefined;
  /** Of sessions that have none of their own. */
  readonly instructions?: string | undefined;
  /**
   * LangChain tools, and names of the servers' tools ("<server>__<tool>", "*" for any text). Left out: all of the servers'.
   */
  readonly tools?: readonly (Tool | string)[] | undefined;
  readonly limits?: { readonly [Name in keyof AgentLimits]?: AgentLimits[Name] | undefined } | undefined;
}

const isText = (value: unknown): boolean => value === undefined || typeof value === "string";
const options = new Set([
  ...["model", "description", "instructions", "tools", "limits"],
  ...["mcpServers", "approvals", "pins"],
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
    return [
      ...Object.keys(agent).flatMap((key) => (options.has(key) ? [] : [`${at}.${key} is not known`])),
      ...modelProblems(`${at}.model`, agent["model"], isModelName, modelForm),
      ...["description", "instructions"].flatMap((key) => (isText(agent[key]) ? [] : [`${at}.${key} must be a text`])),
      ...toolProblems(`${at}.tools`, agent["tools"]),
      ...mcpProblems(at, agent),
      ...limitProblems(`${at}.limits`, agent["limits"]),
    ];
  });
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
