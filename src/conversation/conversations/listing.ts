import type { ReadRequest } from "./api.ts";
import { ParleyError } from "../errors.ts";
import type { PageRequest, Session, SessionFilter, SessionPage } from "../session.ts";
import type { ListPlace, SessionStore } from "../ports/store.ts";

const step = 50;

/** A filter that hardly anything passes must not make one query read all that an owner of a million sessions has. */
const mostLookedThrough = 5000;

/**
 * A page of an owner's sessions, newest updatedAt first, by keyset: a session that moves up while a client pages is
 * neither repeated nor lost for a client that also subscribes to sessionChanged. Sessions that are gone leave the list as they are met; of
 * those that are not `mine` nothing is told, not even that they are there. A page that is not full after `most` sessions ends
 * there, with the cursor to go on from.
 */
export async function listSessions(
  store: SessionStore,
  owner: string,
  page: PageRequest,
  filter: SessionFilter,
  read: ReadRequest,
  mine: (sessionId: string) => boolean = () => true,
  most = mostLookedThrough,
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
  ) => collect(store, owner, { direction, from, until, want, most, filter, mine }, pages);

  const { found, stoppedAt } = forward
    ? await walk("older", after, before, count, read)
    : await walk("newer", before, after, count, read);
  if (!forward) found.reverse();
  const stopped = stoppedAt === null ? null : placeText(stoppedAt);
  const [first, last] = [found[0] ?? null, found.at(-1) ?? null];
  const nothing: ReadRequest = { pages: [] };
  // True facts in both directions: looked up, not guessed from the arguments. Where looking stopped there may be more.
  const more = async (direction: "older" | "newer", from: ListPlace | null): Promise<boolean> => {
    if (from === null) return false;
    const { found: one, stoppedAt: at } = await walk(direction, from, null, 1, nothing);
    return one.length > 0 || at !== null;
  };
  const isEdge = async (of: ListPlace | null): Promise<boolean> =>
    first === null && of !== null && mine(of.sessionId) && (await isListed(store, owner, of, filter));
  const [previous, next] = await Promise.all([
    stopped !== null && !forward ? true : more("newer", first ?? after),
    stopped !== null && forward ? true : more("older", last ?? before),
  ]);
  return {
    items: found.map(({ session, ...place }) => ({ cursor: placeText(place), session })),
    hasPreviousPage: previous || (await isEdge(after)),
    hasNextPage: next || (await isEdge(before)),
    startCursor: (forward ? null : stopped) ?? (first && placeText(first)),
    endCursor: (forward ? stopped : null) ?? (last && placeText(last)),
  };
}

interface Found extends ListPlace {
  readonly session: Session;
}

interface Walk {
  readonly direction: "older" | "newer";
  readonly from: ListPlace | null;
  readonly until: ListPlace | null;
  readonly want: number;
  /** How many sessions to look through at most, about. */
  readonly most: number;
  readonly filter: SessionFilter;
  readonly mine: (sessionId: string) => boolean;
}

/** `stoppedAt`: the last place that was looked at, where that was enough before all wanted were found or the end was reached. */
async function collect(
  store: SessionStore,
  owner: string,
  { direction, from, until, want, most, filter, mine }: Walk,
  read: ReadRequest,
): Promise<{ readonly found: Found[]; readonly stoppedAt: ListPlace | null }> {
  const found: Found[] = [];
  const size = Math.max(step, want);
  let place = from;
  for (let looked = 0; ; looked += size) {
    if (looked >= most) return { found, stoppedAt: place };
    const places = await store.list(owner, { direction, from: place, count: size });
    const wanted: ListPlace[] = [];
    let reached = places.length < size;
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
    if (reached || found.length >= want) return { found, stoppedAt: null };
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

function matches(session: Session, filter: SessionFilter): boolean {
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
