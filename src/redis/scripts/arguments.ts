import { ParleyError } from "../../conversation/errors.ts";
import type { Anchor, Cursor } from "../../conversation/message/cursor.ts";
import type { RecordChange } from "../../conversation/ports/store.ts";
import type { MemorySettings } from "../../conversation/session.ts";

/** A place in a history: three arguments of a script (lib/place.lua), empty where there is none. */
export type PlaceArgs = readonly [kind: string | number, where: string | number, what: string];

export function cursorArgs(cursor: Cursor | null): PlaceArgs {
  return cursor ? [cursor.generation, cursor.position, cursor.mark] : ["", "", ""];
}

/** `opId`: of the message of an id that the caller chose. */
export function anchorArgs(anchor: Anchor | null, opId: (messageId: string) => string): PlaceArgs {
  if (anchor === null || "generation" in anchor) return cursorArgs(anchor);
  switch (anchor.kind) {
    case "place":
      return ["mark", anchor.position, anchor.mark];
    case "named":
      return ["named", anchor.hint, anchor.messageId];
    case "chosen":
      return ["chosen", opId(anchor.messageId), anchor.messageId];
  }
}

export function invalidCursor(): ParleyError {
  return new ParleyError(
    "INVALID_CURSOR",
    "This is neither a cursor of this session nor the id of a message of it. Use one that it gave out, unchanged.",
  );
}

/** Field, value, … of what is set; what goes back to its default is in dropsOf. */
export function recordFields(record: RecordChange): readonly (string | number)[] {
  const { memory, metadata, archived } = record;
  const fields = {
    title: record.title,
    instructions: record.instructions,
    model: record.model,
    mem: memory?.strategy,
    memTurns: memory && (memory.maxTurns ?? ""),
    memTokens: memory && (memory.maxTokens ?? ""),
    metadata: metadata && JSON.stringify(metadata),
    archived: archived === undefined ? null : archived ? 1 : 0,
  };
  return Object.entries(fields).flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [name, value],
  );
}

/** Fields that go back to their default. */
export function dropsOf(change: RecordChange): readonly string[] {
  const drops = (["title", "instructions", "model", "metadata"] as const).filter((name) => change[name] === null);
  return change.memory === null ? [...drops, "mem", "memTurns", "memTokens"] : drops;
}

export function packMemory(memory: MemorySettings): string {
  return `${memory.strategy}:${memory.maxTurns ?? ""}:${memory.maxTokens ?? ""}`;
}
