import { badInput } from "../../../conversation/errors.ts";
import { isObject, stringOrNull } from "../../../conversation/message/json.ts";
import type { Decision } from "../../../conversation/conversations/responding.ts";
import type { JsonObject } from "../../../conversation/message/json.ts";
import type { ContentBlock, ContextEntry } from "../../../conversation/message/message.ts";
import type { PageTool } from "../../../conversation/ports/model.ts";
import { parseContent } from "../../../graphql/types/new-message.ts";

/** What AG-UI's RunAgentInput asks of Parley. */
export interface RunInput {
  readonly threadId: string;
  readonly runId: string;
  /** The user's message that the client's list ends with. null: it ends with a reply, or is empty, and the client wants to see what there is. */
  readonly question: { readonly id: string; readonly content: readonly ContentBlock[] } | null;
  /** Clients of before AG-UI 1.0 do not tell theirs, and take fewer events. */
  readonly protocolVersion: string | null;
  /** Answers to interrupts: then nothing is sent, and the run that has waited for them is shown. */
  readonly resume: readonly Decision[];
  /** What came of calls of the page's tools, which the client's list ends with: then nothing is sent either. */
  readonly results: readonly ToolResult[];
  /** The page's own tools, for the model that answers the question, where it takes such. */
  readonly tools: readonly PageTool[];
  /** What the page knows besides: for the model that answers the question. */
  readonly context: readonly ContextEntry[];
}

export interface ToolResult {
  readonly callId: string;
  readonly text: string;
  readonly failed: boolean;
}

const maxIdLength = 128;

/** The history is the gateway's: of `messages` only the last one counts. @throws {ParleyError} BAD_USER_INPUT with the field */
export function parseRunInput(body: unknown): RunInput {
  if (!isObject(body)) throw badInput("body", "Send AG-UI's RunAgentInput as a JSON object.");
  const { messages } = body;
  if (!Array.isArray(messages)) throw badInput("messages", "Give the messages as a list.");
  const resume = resumeOf(body["resume"]);
  const results = resume.length > 0 ? [] : resultsOf(messages);
  return {
    threadId: textOf(body, "threadId"),
    runId: textOf(body, "runId", maxIdLength),
    question: resume.length + results.length > 0 ? null : questionOf(messages),
    ...{ resume, results, tools: toolsOf(body["tools"]) },
    protocolVersion: stringOrNull(body["protocolVersion"]),
    context: contextOf(body["context"]),
  };
}

function contextOf(context: unknown): readonly ContextEntry[] {
  if (context === undefined || context === null) return [];
  if (!Array.isArray(context)) throw badInput("context", "Give the context as a list.");
  return context.map((entry: unknown, index) => {
    const { description, value } = isObject(entry) ? entry : {};
    if (typeof description === "string" && typeof value === "string") return { description, value };
    throw badInput(`context[${index}]`, "An entry of the context must have a description and a value, both texts.");
  });
}

function toolsOf(tools: unknown): readonly PageTool[] {
  if (tools === undefined || tools === null) return [];
  if (!Array.isArray(tools)) throw badInput("tools", "Give the page's tools as a list.");
  return tools.map((tool: unknown, index) => {
    const { name, description = "", parameters = emptyObject } = isObject(tool) ? tool : {};
    if (typeof name === "string" && typeof description === "string" && isObject(parameters))
      return { name, description, parameters };
    throw badInput(`tools[${index}]`, "A tool must have a name, a description, and the JSON Schema of its parameters.");
  });
}

const emptyObject: JsonObject = { type: "object", properties: {} };

/** Of the messages that the list ends with. */
function resultsOf(messages: readonly unknown[]): readonly ToolResult[] {
  const others = messages.findLastIndex((message) => !(isObject(message) && message["role"] === "tool"));
  return messages.slice(others + 1).map((message, index) => {
    const { toolCallId: callId, content, error } = isObject(message) ? message : {};
    if (typeof callId === "string" && typeof content === "string")
      return { callId, text: content, failed: typeof error === "string" && error !== "" };
    throw badInput(
      `messages[${others + 1 + index}]`,
      "A tool's message must have a toolCallId and a text as its content.",
    );
  });
}

function resumeOf(resume: unknown): readonly Decision[] {
  if (resume === undefined || resume === null) return [];
  if (!Array.isArray(resume)) throw badInput("resume", "Give the answers to interrupts as a list.");
  return resume.map((entry: unknown, index): Decision => {
    const { interruptId: callId, status, payload } = isObject(entry) ? entry : {};
    if (typeof callId !== "string") throw badInput(`resume[${index}].interruptId`, "Give the id of an interrupt.");
    const { approved, editedArgs, reason } = status === "resolved" && isObject(payload) ? payload : {};
    if (approved === true && editedArgs === undefined) return { kind: "APPROVE", callId };
    if (approved === true && isObject(editedArgs)) return { kind: "EDIT", callId, args: editedArgs };
    if (status === "cancelled" || approved === false) return { kind: "REJECT", callId, reason: stringOrNull(reason) };
    throw badInput(
      `resume[${index}]`,
      'An answer must have the status "cancelled", or "resolved" with a payload { approved, editedArgs, reason }: approved says whether the tool is called, editedArgs is an object.',
    );
  });
}

function textOf(body: JsonObject, name: string, most = Infinity): string {
  const text = body[name];
  if (typeof text === "string" && text !== "" && text.length <= most) return text;
  throw badInput(name, most === Infinity ? `Give a ${name}.` : `Give a ${name} of 1 to ${most} characters.`);
}

/** Instructions to the model, its reasoning and what an app shows beside stand in the client's list as well. */
const passedOver: ReadonlySet<unknown> = new Set(["system", "developer", "reasoning", "activity"]);

function questionOf(messages: readonly unknown[]): RunInput["question"] {
  const at = messages.findLastIndex((message) => !(isObject(message) && passedOver.has(message["role"])));
  if (at < 0) return null;
  const message = messages[at];
  const field = `messages[${at}]`;
  if (!isObject(message)) throw badInput(field, "A message must be an object.");
  const { id, role, content } = message;
  if (role === "assistant") return null;
  if (role === "tool") return null;
  if (role !== "user") throw badInput(`${field}.role`, "The last message must be a user's or an assistant's.");
  if (typeof id !== "string" || id === "") throw badInput(`${field}.id`, "A message must have an id.");
  if (typeof content === "string") return { id, content: parseContent(field, { text: content }) };
  if (!Array.isArray(content)) throw badInput(`${field}.content`, "Give the content as text or as a list of parts.");
  const blocks = content.map((part, index) => blockOf(part, `${field}.content[${index}]`));
  return { id, content: parseContent(field, { content: blocks }) };
}

type GivenBlock = NonNullable<NonNullable<Parameters<typeof parseContent>[1]["content"]>[number]>;

/** Of AG-UI 1.0, and the form `binary` of versions before it. */
function blockOf(part: unknown, field: string): GivenBlock {
  if (!isObject(part)) throw badInput(field, "A part must be an object.");
  const { type, text } = part;
  if (type === "text" && typeof text === "string") return { text };
  const source = type === "binary" ? part : part["source"];
  const kind = kinds.get(type) ?? (type === "binary" ? kindOfMimeType(part["mimeType"]) : undefined);
  if (kind === undefined || !isObject(source)) {
    throw badInput(field, "A part must be a text, or an image, audio, video or document with its source.");
  }
  const { mimeType } = source;
  const url = source["type"] === "url" ? source["value"] : source["url"];
  const data = source["type"] === "data" ? source["value"] : source["data"];
  if (typeof url !== "string" && (typeof data !== "string" || typeof mimeType !== "string")) {
    throw badInput(
      field,
      "A source must have a url, or data with a mimeType: what another store keeps cannot be read.",
    );
  }
  if (kind === "image") {
    return { image: { url: typeof url === "string" ? url : `data:${String(mimeType)};base64,${String(data)}` } };
  }
  const where = typeof url === "string" ? { url } : { data };
  // In LangChain's own form of such a block.
  return { other: { type: kind, ...(typeof mimeType === "string" ? { mimeType } : {}), ...where } };
}

const kinds: ReadonlyMap<unknown, string> = new Map([
  ["image", "image"],
  ["audio", "audio"],
  ["video", "video"],
  ["document", "file"],
]);

function kindOfMimeType(mimeType: unknown): string {
  const [kind = ""] = typeof mimeType === "string" ? mimeType.split("/") : [];
  return kind === "image" || kind === "audio" || kind === "video" ? kind : "file";
}
