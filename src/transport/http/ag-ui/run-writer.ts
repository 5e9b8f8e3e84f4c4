import type { SessionEvent } from "../../../conversation/events.ts";
import { partsOf } from "../../../conversation/part-log.ts";
import type { RunPart, ToolPart } from "../../../conversation/part-log.ts";
import { isFinal } from "../../../conversation/run.ts";
import type { Run } from "../../../conversation/run.ts";
import { messageGlobalId } from "../../../graphql/reading/global-ids.ts";

/** An event of AG-UI: a `type` and what belongs to it. */
export type AgUiEvent = { readonly type: string } & Readonly<Record<string, unknown>>;

type OfKind<Kind> = Extract<SessionEvent, { readonly kind: Kind }>;
type PartEvent = OfKind<"progress" | "partAdded" | "partProgress" | "partChanged">;

/** What was written of a part. */
interface Written {
  part: RunPart;
  /** How much of its text, reasoning or arguments, in UTF-16 units. */
  length: number;
  isOpen: boolean;
  /** Whether a tool's result was written. */
  isAnswered: boolean;
}

/**
 * Writes the parts of a run as AG-UI's events. What comes twice is written once. A message's text stays open until another
 * message begins, so that reasoning in its midst does not make two of it; reasoning and calls of tools are closed when they end.
 */
export class RunWriter {
  readonly #sessionId: string;
  readonly #put: (event: AgUiEvent) => void;
  readonly #written: Written[] = [];
  /** Ids of messages that the reader has. */
  readonly #stored = new Set<string>();
  /** Of the message whose text is open. */
  #openMessage: string | null = null;

  constructor(sessionId: string, put: (event: AgUiEvent) => void) {
    this.#sessionId = sessionId;
    this.#put = put;
  }

  /** The reader has these messages whole. */
  passOver(ids: readonly string[]): void {
    for (const id of ids) this.#stored.add(id);
  }

  /** All that it has made so far. */
  run({ log, text, replyLocalId, status }: Run): void {
    partsOf(log, text, replyLocalId, isFinal(status)).forEach((part, index) => this.#write(index, part));
  }

  event(event: PartEvent): void {
    const { index } = event;
    const known = this.#written[index]?.part;
    if (event.kind === "partAdded" || event.kind === "partChanged") this.#write(index, event.part);
    else if (event.kind === "progress") {
      const { replyLocalId: messageLocalId, offset, text } = event;
      const part = known?.kind === "text" ? known : { kind: "text" as const, messageLocalId, start: offset, text: "" };
      this.#write(index, { ...part, text: grown(part.text, offset - part.start, text) });
    } else if (known?.kind === "reasoning") {
      this.#write(index, { ...known, text: grown(known.text, event.offset, event.text) });
    } else if (known?.kind === "tool") {
      this.#write(index, { ...known, argsText: grown(known.argsText, event.offset, event.text) });
    }
  }

  /** Closes what is open. */
  end(): void {
    for (const written of this.#written) this.#close(written);
    this.#closeMessage();
  }

  #write(index: number, part: RunPart): void {
    const messageId = messageGlobalId(this.#sessionId, part.messageLocalId);
    let written = this.#written[index];
    if (written === undefined && this.#stored.has(messageId)) {
      this.#written[index] = { part, length: Infinity, isOpen: false, isAnswered: true };
      return;
    }
    if (written === undefined) {
      for (const before of this.#written) if (before.part.kind === "reasoning") this.#close(before);
      written = { part, length: 0, isOpen: true, isAnswered: false };
      this.#written[index] = written;
      this.#begin(index, part, messageId);
    }
    const { part: before } = written;
    if (before.kind === "tool" && part.kind === "tool" && part.revision < before.revision) return;
    written.part = part;
    if (part.kind === "data") return;
    const text = part.kind === "tool" ? part.argsText : part.text;
    const delta = text.slice(written.length);
    written.length = Math.max(written.length, text.length);
    if (part.kind === "tool") this.#tool(written, part, delta);
    else if (delta === "") return;
    else if (part.kind === "text") this.#put({ type: "TEXT_MESSAGE_CONTENT", messageId, delta });
    else this.#put({ type: "REASONING_MESSAGE_CONTENT", messageId: reasoningId(messageId, index), delta });
  }

  #begin(index: number, part: RunPart, messageId: string): void {
    if (this.#openMessage !== messageId) this.#closeMessage();
    switch (part.kind) {
      case "text":
        if (this.#openMessage === null) this.#put({ type: "TEXT_MESSAGE_START", messageId, role: "assistant" });
        this.#openMessage = messageId;
        break;
      case "reasoning":
        this.#put({ type: "REASONING_START", messageId: reasoningId(messageId, index) });
        this.#put({ type: "REASONING_MESSAGE_START", messageId: reasoningId(messageId, index), role: "reasoning" });
        break;
      case "tool":
        this.#put({
          ...{ type: "TOOL_CALL_START", toolCallId: part.callId, toolCallName: part.name, parentMessageId: messageId },
        });
        break;
      case "data":
        this.#put({ type: "CUSTOM", name: part.name, value: part.data });
    }
  }

  #tool(written: Written, { callId: toolCallId, status, content = "" }: ToolPart, delta: string): void {
    if (delta !== "" && written.isOpen) this.#put({ type: "TOOL_CALL_ARGS", toolCallId, delta });
    if (status === "WRITING") return;
    this.#close(written);
    const isAnswer = status === "DONE" || status === "FAILED" || status === "REJECTED";
    if (!isAnswer || written.isAnswered) return;
    written.isAnswered = true;
    const text = typeof content === "string" ? content : JSON.stringify(content);
    this.#put({ type: "TOOL_CALL_RESULT", messageId: `${toolCallId}-result`, toolCallId, content: text, role: "tool" });
  }

  #close(written: Written): void {
    if (!written.isOpen) return;
    written.isOpen = false;
    const { part } = written;
    if (part.kind === "tool") this.#put({ type: "TOOL_CALL_END", toolCallId: part.callId });
    if (part.kind !== "reasoning") return;
    const messageId = reasoningId(
      messageGlobalId(this.#sessionId, part.messageLocalId),
      this.#written.indexOf(written),
    );
    this.#put({ type: "REASONING_MESSAGE_END", messageId });
    this.#put({ type: "REASONING_END", messageId });
  }

  #closeMessage(): void {
    if (this.#openMessage !== null) this.#put({ type: "TEXT_MESSAGE_END", messageId: this.#openMessage });
    this.#openMessage = null;
  }
}

function reasoningId(messageId: string, index: number): string {
  return `${messageId}-reasoning-${index}`;
}

/** Text is only ever added: what ends within what is there came before. */
function grown(before: string, offset: number, text: string): string {
  return offset + text.length <= before.length ? before : before.slice(0, offset) + text;
}
