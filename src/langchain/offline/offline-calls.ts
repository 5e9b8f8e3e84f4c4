import type { BindToolsInput } from "@langchain/core/language_models/chat_models";
import type { BaseMessage } from "@langchain/core/messages";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";

import { isObject, objectOrEmpty, parseJson, stringOrNull, type JsonObject } from "../../conversation/message/json.ts";
import { textOfMessage } from "../text.ts";

/** A tool as a model is told of it, as far as it is looked at here. */
export interface OfflineTool {
  readonly name: string;
  /** The names of its arguments that are texts, in order. */
  readonly texts: readonly string[];
}

export interface OfflineCall {
  readonly name: string;
  readonly args: JsonObject;
}

export function offlineTools(tools: readonly BindToolsInput[]): readonly OfflineTool[] {
  return tools.flatMap((tool) => {
    // Of those that are no tool of LangChain's (a provider's own) nothing is called.
    const told =
      isObject(tool) && "name" in tool && "schema" in tool ? convertToOpenAITool(tool as never).function : null;
    if (told === null) return [];
    const properties = objectOrEmpty(objectOrEmpty(told.parameters)["properties"]);
    const texts = Object.keys(properties).filter((name) => objectOrEmpty(properties[name])["type"] === "string");
    return [{ name: told.name, texts }];
  });
}

/**
 * The call that the user's last message asks for, where there is a tool for it: "what time is it?" one that is about time,
 * "remember …" one that remembers, "use NAME" or "use NAME with {…}" the one of that name. null: none.
 */
export function offlineCall(tools: readonly OfflineTool[], input: string): OfflineCall | null {
  const named = /\buse (?:the tool )?["'`]?([\w-]+)["'`]?(?: with (\{.*\}))?/is.exec(input);
  if (named !== null) {
    const tool = tools.find(({ name }) => name === named[1] || name.endsWith(`__${named[1]}`));
    const args = parseJson(named[2] ?? "{}");
    if (tool !== undefined && isObject(args)) return { name: tool.name, args };
  }
  if (/\bwhat(?:['’]s| is)? (?:the )?time\b/i.test(input)) return calling(tools, /time|clock/i, () => ({}));
  const [, what] = /\bremember (?:that )?(.+)/is.exec(input) ?? [];
  if (what === undefined || /\?\s*$/.test(input)) return null;
  return calling(tools, /remember|memor|note/i, ({ texts: [first] }) =>
    first === undefined ? {} : { [first]: what.trim() },
  );
}

function calling(
  tools: readonly OfflineTool[],
  about: RegExp,
  argsFor: (tool: OfflineTool) => JsonObject,
): OfflineCall | null {
  const tool = tools.find(({ name }) => about.test(name));
  return tool === undefined ? null : { name: tool.name, args: argsFor(tool) };
}

/** What is said of the answers at the end of the messages; null: the last message is none. */
export function offlineAnswers(messages: readonly BaseMessage[]): string | null {
  const from = messages.findLastIndex(({ type }) => type !== "tool") + 1;
  if (from === messages.length) return null;
  const said = messages.slice(from).map((message) => {
    const name = stringOrNull(message.name) ?? "tool";
    return `The tool ${name} answers: ${textOfMessage(message)}`;
  });
  return said.join("\n");
}
