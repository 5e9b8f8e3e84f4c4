import type { Session } from "./session.ts";

const rooms = new WeakMap<Session, number>();

/** Says of a reading that this same object is given for as long as the session reads the same, with room for what is made of it. */
export function keepWith(session: Session, characters: number): void {
  rooms.set(session, characters);
}

/** How many characters that were made of a reading may be kept with it. 0: it is not given again. */
export function roomWith(session: Session): number {
  return rooms.get(session) ?? 0;
}
