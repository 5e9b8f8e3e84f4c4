import { parseCursor, type Cursor } from "../conversation/cursor.ts";
import { ParleyError } from "../conversation/errors.ts";
import type { PageRequest } from "../conversation/session.ts";

/** Generation, position and mark: three arguments of a script, empty where there is no cursor. */
export function cursorArgs(cursor: Cursor | null): readonly [string | number, string | number, string] {
  return cursor ? [cursor.generation, cursor.position, cursor.mark] : ["", "", ""];
}

/** The arguments of view.lua for one page; an error where a cursor of it is none of this session's. */
export function pageArgs(historyKey: string, page: PageRequest): readonly (string | number)[] | Error {
  const places: (readonly [string | number, string | number, string])[] = [];
  for (const cursor of [page.after, page.before]) {
    if (cursor === null || cursor === "") {
      places.push(cursorArgs(null));
      continue;
    }
    const parsed = parseCursor(historyKey, cursor);
    if (!parsed) return invalidCursor();
    places.push(cursorArgs(parsed));
  }
  return [page.first === null ? "last" : "first", page.first ?? page.last ?? 50, ...places.flat()];
}

export function invalidCursor(): ParleyError {
  return new ParleyError(
    "INVALID_CURSOR",
    "This is not a cursor of this session. Use a cursor that it gave out, unchanged.",
  );
}
