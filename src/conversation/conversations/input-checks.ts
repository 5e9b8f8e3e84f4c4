import type { UpdateSession } from "./api.ts";
import { parseAnchor, type Anchor } from "../message/cursor.ts";
import { badInput, ParleyError } from "../errors.ts";
import type { NewMessage } from "../message/message.ts";
import type { ModelChoice } from "../ports/model.ts";
import type { Viewer } from "../session.ts";
import { checkSessionId, mayChoose } from "./access.ts";

export interface InputLimits {
  readonly historyKeyPrefix: string;
  readonly maxMessageChars: number;
  readonly maxTitleChars: number;
  readonly maxMetadataBytes: number;
  readonly maxMessagesPerAdd: number;
}

/**
 * Blocks, and calls of tools, of one message. Lists of them come whole with each message of a page, so what one message may
 * hold is multiplied by all that read it.
 */
const maxParts = 100;

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
    const { maxMessageChars: most } = this.#limits;
    if (known > most) throw badInput("context", `The context may have at most ${most} characters; this has ${known}.`);
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

function chooseOneOf(names: readonly string[]): string {
  return names.length === 0 ? "Your credentials allow none." : `Choose one of: ${names.join(", ")}.`;
}
