import { ParleyError } from "../conversation/errors.ts";
import type { Reading, StoreRead } from "../conversation/store.ts";
import { invalidCursor, pageArgs } from "./cursor-args.ts";
import type { RecentReadings } from "./recent-readings.ts";
import { list, number, rowsOf, runView, sessionOf, text } from "./replies.ts";
import type { Reply } from "./scripts.ts";
import type { SessionCalls } from "./session-calls.ts";

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
  request.pages.forEach((page, i) => {
    const args = pageArgs(key, page);
    if (args instanceof Error) badPages.set(i, args);
    else pages.push(...args);
  });
  for (const [from, to] of request.ranges ?? []) pages.push("range", 0, "", from, "", "", to, "");
  const args = [calls.opId(owner, request.op ?? ""), request.runId ?? "", ...pages];
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
    if (recent === null || badPages.size > 0 || request.ranges !== undefined) return make();
    return recent.of([owner, key, ...args].join("\0"), body, make);
  }
  throw changesTooFast();
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
  const session = {
    ...whole,
    pages: request.pages.map((_, i) => badPages.get(i) ?? answered.shift() ?? invalidCursor()),
  };
  const ranges = list(body[10])
    .slice(request.pages.length - badPages.size)
    .map((page) => {
      const [, low, , , rows] = list(page);
      return rowsOf(number(low), rows);
    });
  const op = text(body[5]);
  const tab = op.indexOf("\t");
  return {
    session,
    op: op === "" ? null : { fingerprint: op.slice(0, tab), result: op.slice(tab + 1) },
    run: runView(sessionId, key, session.generation, body[6]),
    ranges,
  };
}
