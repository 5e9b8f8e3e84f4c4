import { isObject, type JsonObject } from "../../../src/conversation/message/json.ts";

/** What the server's own small model answers: it repeats what it was told, and finds a name in the messages. */
export function smallModel(messages: readonly JsonObject[]): string {
  const said = messages.filter(({ role }) => role === "user").map(textOf);
  // What stayed without an answer before comes along, a paragraph for each.
  const input = said.at(-1)?.split("\n\n").at(-1) ?? "";
  const names = said.map((text) => /\b(?:I'm|I am|my name is) (\p{Lu}\p{L}*)/u.exec(text)?.[1]);
  if (/\bmy name\b.*\?/i.test(input)) {
    const name = names.findLast(Boolean);
    return name === undefined ? "You have not told me your name." : `Your name is ${name}.`;
  }
  const told = names.at(-1);
  return told === undefined ? `You said: ${input}` : `Hello ${told}!`;
}

/** Of a message as it is sent to the server. */
export function textOf({ content }: JsonObject): string {
  if (typeof content === "string") return content;
  const parts: readonly unknown[] = Array.isArray(content) ? content : [];
  return parts.map((part) => (isObject(part) && typeof part["text"] === "string" ? part["text"] : "")).join("");
}
