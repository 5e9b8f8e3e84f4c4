import type { UpdateSession } from "./api.ts";
import { parseAnchor, type Anchor } from "../message/cursor.ts";
import { badInput, ParleyError } from "../errors.ts";
import type { NewMessage } from "../message/message.ts";
import { isObject, isTexts, type JsonObject } from "../message/json.ts";
import type { ModelChoice, PageTool } from "../ports/model.ts";
import type { Viewer } from "../session.ts";
import { checkSessionId, mayChoose } from "./access.ts";

export interface InputLimits {
  readonly historyKeyPrefix: string;
  readonly maxMessageChars: number;
  readonly maxTitleChars: number;
  readonly maxMetadataBytes: number;
  readonly maxMessagesPerAdd: number;
  /** Whether a page may give agents tools of its own. */
  readonly clientTools: boolean;
}

/**
 * Blocks, and calls of tools, of one message. Lists of them come whole with each message of a page, so what one message may
 * hold is multiplied by all that read it.
 */
const maxParts = 100;

const maxTools = 32;
const maxToolsBytes = 65_536;
/** What OpenAI takes; the others take more. */
const toolName = /^[A-Za-z0-9_-]{1,64}$/;

/** What callers give is held against the limits here; each check throws a ParleyError that names the field. */
export class InputChecks {
  readonly #models: readonly ModelChoice[];
  readonly #limits: InputLimits;

  constructor(models: readonly ModelChoice[], limits: InputLimits) {
    this.#models = models;
    this.#limits = limits;
  }

  sessionId(sessionId: string, field = "input.sessionId"): void {
    checkSessionId(field, this.#limits.historyKeyPrefix, sessionId);
  }

  anchor(sessionId: string, text: string | null, field: string): Anchor | null {
    if (text === null) return null;
    const anchor = parseAnchor(sessionId, this.#limits.historyKeyPrefix + sessionId, text);
    if (!anchor || ("generation" in anchor && anchor.position < 0)) {
      throw new ParleyError(
        "INVALID_CURSOR",
        "This is neither a cursor nor the id of a message of this session. Use one that it gave out, unchanged.",
        { field },
      );
    }
    return anchor;
  }

  /** The models that the viewer may choose. */
  modelsOf(viewer: Viewer): readonly ModelChoice[] {
    return this.#models.filter(({ name }) => mayChoose(viewer, name));
  }

  /** One that the viewer may not choose is refused as one that there is not. */
  model(viewer: Viewer, model: string | null | undefined, field = "input.model"): void {
    if (model === null || model === undefined) return;
    const names = this.modelsOf(viewer).map(({ name }) => name);
    if (!names.includes(model))
      throw badInput(field, `There is no model of this name to choose. ${chooseOneOf(names)}`);
  }

  /** `model`: what answers where the caller names none, the session's own or the gateway's. */
  unnamedModel(viewer: Viewer, model: string): void {
    if (mayChoose(viewer, model)) return;
    const names = this.modelsOf(viewer).map(({ name }) => name);
    throw badInput(
      "input.model",
      `Your credentials do not allow the model that answers here where none is named. ${chooseOneOf(names)}`,
    );
  }

  /** Tools that a page gives, by themselves. */
  toolsForm(tools: readonly PageTool[]): void {
    if (tools.length === 0) return;
    const at = "input.tools";
    if (!this.#limits.clientTools) throw badInput(at, "This gateway takes no tools of pages: CLIENT_TOOLS is off.");
    if (tools.length > maxTools) throw badInput(at, `There may be at most ${maxTools} tools.`);
    if (Buffer.byteLength(JSON.stringify(tools)) > maxToolsBytes)
      throw badInput(at, `Tools may have at most ${maxToolsBytes} bytes as JSON.`);
    for (const [i, { name, parameters }] of tools.entries()) {
      if (!toolName.test(name))
        throw badInput(`${at}[${i}].name`, 'A name has letters, digits, "_" and "-" only, at most 64.');
      if (tools.findIndex((one) => one.name === name) < i)
        throw badInput(`${at}[${i}].name`, "There are two tools of this name.");
      const problem = schemaProblem(parameters);
      if (problem !== null) throw badInput(`${at}[${i}].parameters`, problem);
    }
  }

  /** The same for what is to answer. */
  async toolsOf(model: string, tools: readonly PageTool[], signal: AbortSignal): Promise<void> {
    if (tools.length === 0) return;
    const choice = this.#takerOfTools(model);
    if (choice === undefined)
      throw badInput("input.tools", `${model} takes no tools of a page: an agent does that has clientTools.`);
    // Where a server of its tools is away the run says so.
    const own = await choice.tools(signal).catch(() => []);
    const i = tools.findIndex(({ name }) => own.some((one) => one.name === name));
    if (i >= 0) throw badInput(`input.tools[${i}].name`, "The agent has a tool of this name.");
  }

  /** Whether what answers takes tools of a page, and this gateway does. */
  takesTools(model: string): boolean {
    return this.#limits.clientTools && this.#takerOfTools(model) !== undefined;
  }

  #takerOfTools(model: string): ModelChoice | undefined {
    return this.#models.find(({ name, takesPageTools }) => name === model && takesPageTools === true);
  }

  messages(messages: readonly NewMessage[]): void {
    const { maxMessagesPerAdd } = this.#limits;
    if (messages.length === 0) throw badInput("input.messages", "input.messages must hold at least one message.");
    if (messages.length > maxMessagesPerAdd) {
      throw badInput("input.messages", `input.messages must hold at most ${maxMessagesPerAdd} messages.`);
    }
    messages.forEach((message, i) => this.length(message, `input.messages[${i}]`));
    const chosen = messages.flatMap((message) => message.messageId ?? []);
    if (new Set(chosen).size < chosen.length)
      throw badInput("input.messages", "Each messageId must be used once only.");
  }

  length(message: NewMessage, field: string): void {
    const { maxMessageChars } = this.#limits;
    for (const part of ["content", "toolCalls"] as const) {
      if (message[part].length > maxParts)
        throw badInput(`${field}.${part}`, `A message may have at most ${maxParts} of them.`);
    }
    const content = message.content.reduce(
      (sum, block) => sum + (block.kind === "text" ? block.text.length : JSON.stringify(block).length),
      0,
    );
    const { context = [] } = message;
    if (context.length > maxParts) throw badInput("context", `There may be at most ${maxParts} of them.`);
    const known = context.reduce((sum, { description, value }) => sum + description.length + value.length, 0);
    if (known > maxMessageChars)
      throw badInput("context", `The context may have at most ${maxMessageChars} characters; this has ${known}.`);
    const beside = [message.name ?? "", message.toolCallId ?? "", ...message.toolCalls.map((c) => JSON.stringify(c))];
    const chars = beside.reduce((sum, text) => sum + text.length, content);
    const [only] = message.content;
    const where = message.content.length === 1 && only?.kind === "text" ? "text" : "content";
    if (chars > maxMessageChars)
      throw badInput(
        `${field}.${where}`,
        `A message may have at most ${maxMessageChars} characters; this has ${chars}.`,
      );
  }

  settings(
    viewer: Viewer,
    settings: Pick<UpdateSession, "title" | "instructions" | "model" | "metadata">,
    field = "input",
  ): void {
    const { maxTitleChars, maxMessageChars, maxMetadataBytes } = this.#limits;
    const { title, instructions, model, metadata } = settings;
    this.model(viewer, model, `${field}.model`);
    if (title && title.length > maxTitleChars)
      throw badInput(`${field}.title`, `A title may have at most ${maxTitleChars} characters.`);
    if (instructions && instructions.length > maxMessageChars) {
      throw badInput(`${field}.instructions`, `Instructions may have at most ${maxMessageChars} characters.`);
    }
    if (metadata && Buffer.byteLength(JSON.stringify(metadata)) > maxMetadataBytes) {
      throw badInput(`${field}.metadata`, `Metadata may have at most ${maxMetadataBytes} bytes as JSON.`);
    }
  }
}

/** What keeps a value from being the JSON Schema of a tool's arguments, or null. */
function schemaProblem(parameters: JsonObject): string | null {
  const { type, properties = {}, required = [] } = parameters;
  if (type !== "object") return 'Parameters are a JSON Schema with "type": "object".';
  const isSchema = (one: unknown) => isObject(one) || typeof one === "boolean";
  if (!isObject(properties) || !Object.values(properties).every(isSchema))
    return "The properties of parameters are an object of JSON Schemas.";
  if (!isTexts(required)) return "What parameters have as required is a list of names.";
  return null;
}

function chooseOneOf(names: readonly string[]): string {
  return names.length === 0 ? "Your credentials allow none." : `Choose one of: ${names.join(", ")}.`;
}
