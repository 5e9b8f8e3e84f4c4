import type { ReadRequest } from "./api.ts";
import { ParleyError } from "./errors.ts";
import type { PageRequest, Session, SessionFilter, SessionPage } from "./session.ts";
import type { ListPlace, SessionStore } from "./store.ts";

const step = 50;

/**
 * A page of an owner's sessions, newest updatedAt first, by keyset: a session that moves up while a client pages is
 * neither doubled nor lost for who listens to sessionChanged. Sessions that are gone leave the list as they are met; of
 * those that are not `mine` nothing is told, not even that they are there.
 */
export async function listSessions(
  store: SessionStore,
  owner: string,
  page: PageRequest,
  filter: SessionFilter,
  read: ReadRequest,
  mine: (sessionId: string) => boolean = () => true,
): Promise<SessionPage> {
  const after = page.after === null ? null : parsePlace(page.after);
  const before = page.before === null ? null : parsePlace(page.before);
  const forward = page.last === null;
  const count = page.first ?? page.last ?? 20;
  const walk = (
    direction: "older" | "newer",
    from: ListPlace | null,
    until: ListPlace | null,
    want: number,
    pages: ReadRequest,
  ) => collect(store, owner, direction, from, until, want, filter, pages, mine);

  const found = forward
    ? await walk("older", after, before, count, read)
    : (await walk("newer", before, after, count, read)).reverse();
  const [first, last] = [found[0] ?? null, found.at(-1) ?? null];
  const nothing: ReadRequest = { pages: [] };
  // True facts in both directions: looked up, not guessed from the arguments.
  const newer = first ?? after;
  const older = last ?? before;
  const [previous, next] = await Promise.all([
    newer ? walk("newer", newer, null, 1, nothing) : [],
    older ? walk("older", older, null, 1, nothing) : [],
  ]);
  return {
    items: found.map(({ session, ...place }) => ({ cursor: placeText(place), session })),
    hasPreviousPage:
      previous.length > 0 ||
      (first === null && after !== null && mine(after.sessionId) && (await isListed(store, owner, after, filter))),
    hasNextPage:
      next.length > 0 ||
      (last === null && before !== null && mine(before.sessionId) && (await isListed(store, owner, before, filter))),
  };
}

interface Found extends ListPlace {
  readonly session: Session;
}

async function collect(
  store: SessionStore,
  owner: string,
  direction: "older" | "newer",
  from: ListPlace | null,
  until: ListPlace | null,
  want: number,
  filter: SessionFilter,
  read: ReadRequest,
  mine: (sessionId: string) => boolean,
): Promise<Found[]> {
  const found: Found[] = [];
  let place = from;
  for (;;) {
    const places = await store.list(owner, { direction, from: place, count: Math.max(step, want) });
    const wanted: ListPlace[] = [];
    let reached = places.length < Math.max(step, want);
    for (const one of places) {
      if ((until && !isBefore(one, until, direction)) || tooOld(one, filter, direction)) {
        reached = true;
        break;
      }
      if (mine(one.sessionId)) wanted.push(one);
    }
    for (let i = 0; i < wanted.length && found.length < want; i += step) {
      const some = wanted.slice(i, i + step);
      const readings = await Promise.all(some.map((one) => store.read(owner, one.sessionId, read)));
      readings.forEach((reading, at) => {
        const one = some[at];
        if (!one) return;
        if (!reading) store.forget(owner, one.sessionId);
        else if (found.length < want && matches(reading.session, filter))
          found.push({ ...one, session: reading.session });
      });
    }
    if (reached || found.length >= want) return found;
    place = places.at(-1) ?? place;
  }
}

async function isListed(store: SessionStore, owner: string, place: ListPlace, filter: SessionFilter): Promise<boolean> {
  const reading = await store.read(owner, place.sessionId, { pages: [] });
  return reading !== null && matches(reading.session, filter);
}

/** Whether a place comes before `until` when one walks in this direction. */
function isBefore(place: ListPlace, until: ListPlace, direction: "older" | "newer"): boolean {
  const sign = direction === "older" ? 1 : -1;
  if (place.updatedAt !== until.updatedAt) return (place.updatedAt - until.updatedAt) * sign > 0;
  return Buffer.compare(Buffer.from(place.sessionId), Buffer.from(until.sessionId)) * sign > 0;
}

function tooOld(place: ListPlace, filter: SessionFilter, direction: "older" | "newer"): boolean {
  return direction === "older" && filter.updatedAfter !== null && place.updatedAt <= filter.updatedAfter;
}

export function matches(session: Session, filter: SessionFilter): boolean {
  const { titleContains, archived, metadata, updatedAfter } = filter;
  if (archived !== null && session.archived !== archived) return false;
  if (updatedAfter !== null && session.updatedAt <= updatedAfter) return false;
  if (titleContains !== null && !(session.title ?? "").toLowerCase().includes(titleContains.toLowerCase()))
    return false;
  if (metadata !== null) {
    for (const [key, value] of Object.entries(metadata)) {
      if (!Object.hasOwn(session.metadata, key) || canonical(session.metadata[key]) !== canonical(value)) return false;
    }
  }
  return true;
}

/** JSON with sorted keys: the order that a client wrote them in does not count. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function placeText({ updatedAt, sessionId }: ListPlace): string {
  return Buffer.from(`s1.${updatedAt}.${sessionId}`).toString("base64url");
}

function parsePlace(cursor: string): ListPlace {
  const [, updatedAt, sessionId] = /^s1\.(\d{1,15})\.(.+)$/su.exec(Buffer.from(cursor, "base64url").toString()) ?? [];
  if (
    updatedAt === undefined ||
    sessionId === undefined ||
    placeText({ updatedAt: Number(updatedAt), sessionId }) !== cursor
  ) {
    throw new ParleyError(
      "INVALID_CURSOR",
      "This is not a cursor of a list of sessions. Use a cursor that `sessions` gave out, unchanged.",
    );
  }
  return { updatedAt: Number(updatedAt), sessionId };
}
