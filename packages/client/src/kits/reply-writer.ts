import type { InferUIMessageChunk } from "ai";

import type { ParleyUIMessage, ToolPart } from "./ui-message.ts";

export type Chunk = InferUIMessageChunk<ParleyUIMessage>;

type Part = ParleyUIMessage["parts"][number];
type Streamed = Extract<Part, { readonly type: "text" | "reasoning" }>;

/** What was written of a step. */
interface Step {
  /** The last one is open. */
  blocks: readonly Streamed[];
  readonly calls: Map<string, ToolPart>;
  /** Sources, files and other blocks. */
  others: number;
  /** Nothing but its calls changes any more. */
  isOver: boolean;
}

/** Writes how a message of the AI SDK grows, as its stream. */
export class ReplyWriter {
  readonly #chunks: (chunk: Chunk) => void;
  #isSilent = false;
  readonly #steps: Step[] = [];

  /** `known`: what the reader has of the message already. */
  constructor(put: (chunk: Chunk) => void, known?: ParleyUIMessage) {
    this.#chunks = put;
    if (known === undefined) return;
    this.#isSilent = true;
    this.write(known);
    this.#isSilent = false;
    for (const step of this.#steps) step.isOver = true;
  }

  write({ id, parts, metadata }: ParleyUIMessage): void {
    if (this.#steps.length === 0) {
      this.#put({ type: "start", messageId: id, ...(metadata === undefined ? {} : { messageMetadata: metadata }) });
    }
    let from = 0;
    for (let at = 0; from <= parts.length; at++) {
      const next = parts.findIndex(({ type }, index) => index >= from && type === "step-start");
      const until = next === -1 ? parts.length : next;
      this.#writeStep(at, parts.slice(from, until));
      from = until + 1;
    }
  }

  /** Closes what is open. */
  end(): void {
    const step = this.#steps.at(-1);
    if (step?.isOver === false) this.#close(step);
  }

  #put(chunk: Chunk): void {
    if (!this.#isSilent) this.#chunks(chunk);
  }

  #writeStep(at: number, parts: readonly Part[]): void {
    let step = this.#steps[at];
    if (step === undefined) {
      if (at > 0) {
        this.end();
        for (const before of this.#steps) before.isOver = true;
        this.#put({ type: "finish-step" });
      }
      this.#put({ type: "start-step" });
      step = { blocks: [], calls: new Map(), others: 0, isOver: false };
      this.#steps.push(step);
    }
    if (!step.isOver) this.#writeBlocks(step, parts);
    for (const part of parts) if (part.type === "dynamic-tool") this.#writeCall(step, part);
  }

  #writeBlocks(step: Step, parts: readonly Part[]): void {
    const blocks = parts.filter((part) => part.type === "text" || part.type === "reasoning");
    const goesOn = step.blocks.every(({ type, text }, index) => {
      const block = blocks[index];
      return block?.type === type && block.text.startsWith(text);
    });
    if (!goesOn) {
      // It is stored in another form than it was streamed in.
      this.#close(step);
      this.#put({ type: "reset-step" });
      Object.assign(step, { blocks: [], others: 0 });
      step.calls.clear();
    }
    for (const block of blocks.slice(Math.max(0, step.blocks.length - 1)))
      this.#grow(step, block, blocks.indexOf(block));
    const others = parts.filter(({ type }) => type === "source-url" || type === "file" || type === "data-block");
    for (const part of others.slice(step.others)) {
      if (part.type === "source-url" || part.type === "data-block") this.#put(part);
      if (part.type === "file") this.#put({ type: "file", url: part.url, mediaType: part.mediaType });
    }
    step.others = others.length;
  }

  #grow(step: Step, block: Streamed, index: number): void {
    const { type, text } = block;
    const id = String(index);
    const before = step.blocks[index];
    if (before === undefined) {
      this.#close(step);
      this.#put({ type: `${type}-start`, id });
    }
    const delta = text.slice(before?.text.length ?? 0);
    if (delta !== "") this.#put({ type: `${type}-delta`, id, delta });
    step.blocks = [...step.blocks.slice(0, index), block];
  }

  /** Of the blocks the last one is open. */
  #close({ blocks }: Step): void {
    const last = blocks.at(-1);
    if (last !== undefined) this.#put({ type: `${last.type}-end`, id: String(blocks.length - 1) });
  }

  #writeCall(step: Step, part: ToolPart): void {
    const { toolCallId, toolName, providerExecuted = false } = part;
    const before = step.calls.get(toolCallId);
    step.calls.set(toolCallId, part);
    const call = { toolCallId, providerExecuted, dynamic: true } as const;
    if (part.state === "input-streaming") {
      if (before === undefined) this.#put({ type: "tool-input-start", ...call, toolName });
      const inputTextDelta = (part.rawInput ?? "").slice(before?.state === part.state ? before.rawInput?.length : 0);
      if (inputTextDelta !== "") this.#put({ type: "tool-input-delta", toolCallId, inputTextDelta });
      return;
    }
    const { input } = part;
    const isNew = before === undefined || before.state === "input-streaming";
    if (isNew || JSON.stringify(before.input) !== JSON.stringify(input)) {
      this.#put({ type: "tool-input-available", ...call, toolName, input });
    }
    if (part.state === before?.state) return;
    switch (part.state) {
      case "approval-requested":
        this.#put({ type: "tool-approval-request", approvalId: part.approval.id, toolCallId });
        break;
      case "approval-responded":
        this.#put({ type: "tool-approval-response", approvalId: part.approval.id, approved: part.approval.approved });
        break;
      case "output-available":
        this.#put({ type: "tool-output-available", ...call, output: part.output });
        break;
      case "output-error":
        this.#put({ type: "tool-output-error", ...call, errorText: part.errorText });
        break;
      case "output-denied":
        this.#put({ type: "tool-output-denied", toolCallId });
    }
  }
}
