import { parseAnchor } from "../../conversation/message/cursor.ts";
import { ParleyError } from "../../conversation/errors.ts";
import type { PageRequest } from "../../conversation/session.ts";
import type { Reading, StoreRead } from "../../conversation/ports/store.ts";
import { invalidCursor } from "../scripts/cursor-args.ts";
import type { RecentReadings } from "./recent-readings.ts";
import { foundOf, list, number, rowsOf, runView, sessionOf } from "../scripts/replies.ts";
import type { Reply } from "../scripts/scripts.ts";
import type { SessionCalls } from "../scripts/session-calls.ts";

/** Where the answer of view.lua, without its code, says what time it is. */
export const viewClock = 4;

/**
 * Why there is no reading. "missing": nothing that this owner may see; "other": the key holds what is no history, so no
 * session can begin there.
 */
export type Absent = "missing" | "other";

/** A session with pages and ranges of its rows, all of one moment. `recent`: null for what is read once. */
export async function readSession(
  calls: SessionCalls,
  owner: string,
  sessionId: string,
  key: string,
  request: StoreRead,
  recent: RecentReadings | null,
): Promise<Reading | Absent> {
  const badPages = new Map<number, Error>();
  const pages: (string | number)[] = [];
  pagesOf(request).forEach((page, i) => {
    const places = [page.after, page.before].map((given) => {
      return given === null || given === "" ? null : (parseAnchor(sessionId, key, given) ?? invalidCursor());
    });
    const bad = places.find((place) => place instanceof Error);
    if (bad) {
      badPages.set(i, bad);
      return;
    }
    const kind = page === request.next ? "next" : page.first === null ? "last" : "first";
    pages.push(kind, page.first ?? page.last ?? 50);
    for (const place of places) if (!(place instanceof Error)) pages.push(...calls.anchorArgs(owner, place));
  });
  for (const [from, to] of request.ranges ?? []) pages.push("range", 0, "", from, "", "", to, "");
  if (request.at) pages.push("at", 1, ...calls.anchorArgs(owner, request.at), "", "", "");
  const args = [request.runId ?? "", request.mostBytes ?? "", ...pages];
  let answer = await calls.run("view", owner, key, null, args);
  for (let attempt = 0; attempt < 5; attempt++) {
    if (answer[0] === "TOUCH") {
      const touched = await calls.touchAndView(owner, key, args);
      if (!touched) return "missing";
      answer = touched;
      continue;
    }
    if (answer[0] === "NOT_FOUND") return answer[1] === undefined ? "missing" : "other";
    const body = answer.slice(1);
    const make = () => readingOf(sessionId, key, request, badPages, body);
    if (recent === null || badPages.size > 0 || request.ranges !== undefined || request.at !== undefined) return make();
    return recent.of([owner, key, ...args].join("\0"), body, make);
  }
  throw changesTooFast();
}

function pagesOf({ pages, next }: StoreRead): readonly PageRequest[] {
  return next === undefined ? pages : [...pages, next];
}

export function changesTooFast(): ParleyError {
  return new ParleyError("STORE_UNAVAILABLE", "The history changes faster than it can be read. Try again.", {
    retryAfterSeconds: 1,
  });
}

/** The answer of view.lua, without its code. It holds the pages that could be asked for: `badPages` go between them. */
function readingOf(
  sessionId: string,
  key: string,
  request: StoreRead,
  badPages: ReadonlyMap<number, Error>,
  body: readonly Reply[],
): Reading {
  const whole = sessionOf(sessionId, key, body);
  const answered = [...whole.pages];
  const asked = pagesOf(request);
  const pages = asked.map((_, i) => badPages.get(i) ?? answered.shift() ?? invalidCursor());
  const others = list(body[9]).slice(asked.length - badPages.size);
  const found = request.at === undefined ? null : foundOf(others.at(-1) ?? null);
  const ranges = others.slice(0, request.ranges?.length ?? 0).map((page) => {
    const [, low, , , rows] = list(page);
    return rowsOf(number(low), rows);
  });
  return {
    session: { ...whole, pages: pages.slice(0, request.pages.length) },
    run: runView(sessionId, key, whole.generation, body[5]),
    next: pages[request.pages.length] ?? null,
    ranges,
    at: found,
  };
}
