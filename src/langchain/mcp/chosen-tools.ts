import { createHash } from "node:crypto";

import { DynamicStructuredTool, type StructuredToolInterface } from "@langchain/core/tools";
import { ToolMessage } from "@langchain/core/messages";
import type { Tool } from "@modelcontextprotocol/sdk/types.js";

import { idMatcher } from "../../conversation/conversations/access.ts";
import { isObject } from "../../conversation/message/json.ts";
import { thereAre, ToolChoiceError, type AgentTool } from "../agents/spec.ts";
import { resultOf } from "./result.ts";
import type { McpServer } from "./server.ts";

export interface ToolChoice {
  /** Names, "*" for any text; null: all. */
  readonly tools: readonly string[] | null;
  readonly approvals: readonly string[];
  /** By the names of tools: pinOf() each, when somebody looked at it. Where there is any, a tool without one is left out. */
  readonly pins: Readonly<Record<string, string>>;
}

export interface ServerTool {
  readonly server: McpServer;
  readonly tool: Tool;
  readonly hidesErrors: boolean;
  /** Its calls need the user's token. */
  readonly actsAsUser?: boolean;
}

/** What providers take as a tool's name. */
const toolName = /^[A-Za-z0-9_-]{1,64}$/;

export function nameOf({ server, tool }: Pick<ServerTool, "server" | "tool">): string {
  return `${server.name}__${tool.name}`;
}

/** Of all that a model is told of a tool. */
export function pinOf(tool: Tool): string {
  const told = JSON.stringify([tool.name, tool.description ?? tool.title ?? "", tool.inputSchema], inKeyOrder);
  return `sha256:${createHash("sha256").update(told).digest("hex")}`;
}

function inKeyOrder(_key: string, value: unknown): unknown {
  return isObject(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value;
}

/**
 * The tools of an agent: `own` ones, and those that are chosen out of those that its servers have now. `onLeftOut`: for the
 * operator.
 * @throws {ToolChoiceError} where a name or pattern means none
 */
export function chosenTools(
  all: readonly ServerTool[],
  own: readonly StructuredToolInterface[],
  { tools, approvals, pins }: ToolChoice,
  onLeftOut: (name: string, why: string) => void,
  userToken: string | null = null,
): readonly AgentTool[] {
  const usable = new Map<string, ServerTool>();
  for (const one of all) {
    const name = nameOf(one);
    const why = !toolName.test(name)
      ? "Its name is not one that providers take: letters, digits, _ and -, at most 64 with its server's."
      : usable.has(name)
        ? "Its server has two of this name."
        : own.some((other) => other.name === name)
          ? "The agent has another tool of this name."
          : Object.keys(pins).length > 0 && pins[name] !== pinOf(one.tool)
            ? pins[name] === undefined
              ? "It has no pin."
              : "It is not what it was when it was pinned."
            : null;
    if (why === null) usable.set(name, one);
    else onLeftOut(name, why);
  }
  const meant = new Set(tools === null ? usable.keys() : named(tools, [...usable.keys()], "tools"));
  const served = [...usable]
    .filter(([name]) => meant.has(name))
    .map(([name, one]) => langchainTool(name, one, userToken));
  const chosen = [...own, ...served];
  const waiting = new Set(
    named(
      approvals,
      chosen.map(({ name }) => name),
      "approvals",
    ),
  );
  return chosen.map((tool) => ({ tool, needsApproval: waiting.has(tool.name) }));
}

/** Those names that the patterns mean. */
function named(patterns: readonly string[], names: readonly string[], where: string): readonly string[] {
  return patterns.flatMap((pattern) => {
    const meant = names.filter(idMatcher(pattern));
    if (meant.length === 0)
      throw new ToolChoiceError(`${where}: ${JSON.stringify(pattern)} means no tool that there is. ${thereAre(names)}`);
    return meant;
  });
}

const needsUser = "The tool needs the user: the run goes on without one. It was not called.";

function langchainTool(
  name: string,
  { server, tool, hidesErrors, actsAsUser }: ServerTool,
  userToken: string | null,
): DynamicStructuredTool {
  return new DynamicStructuredTool({
    name,
    description: tool.description ?? tool.title ?? name,
    // Safe: JSON Schema of an object, as the protocol has it.
    schema: tool.inputSchema as never,
    func: async (args: unknown, _manager, config) => {
      const signal = config?.signal ?? new AbortController().signal;
      const given = isObject(args) ? args : {};
      const called = actsAsUser
        ? userToken !== null && (await server.callAs(userToken, tool.name, given, signal))
        : await server.call(tool.name, given, signal);
      const { isFailed, text, artifact } = called
        ? resultOf(called)
        : { isFailed: true, text: needsUser, artifact: null };
      // What is thrown is told to nobody but the operator.
      if (called !== false && isFailed && hidesErrors) throw new Error(text);
      const toolCall: unknown = config !== undefined && "toolCall" in config ? config["toolCall"] : null;
      return new ToolMessage({
        content: text,
        name,
        tool_call_id: isObject(toolCall) && typeof toolCall["id"] === "string" ? toolCall["id"] : "",
        status: isFailed ? "error" : "success",
        ...(artifact === null ? {} : { artifact }),
      });
    },
  });
}
