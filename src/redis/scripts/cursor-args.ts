import type { Anchor, Cursor } from "../../conversation/message/cursor.ts";
import { ParleyError } from "../../conversation/errors.ts";

/** A place in a history: three arguments of a script (lua/place.lua), empty where there is none. */
export type PlaceArgs = readonly [string | number, string | number, string];

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
