import { ParleyError, PageTooLarge } from "../../../conversation/errors.ts";
import { ExpiredCursor, parseAnchor, unknownMessage, invalidCursor } from "../../../conversation/message/cursor.ts";
import { markOf } from "../../../conversation/message/ids.ts";
import { isObject, parseJson } from "../../../conversation/message/json.ts";
import type { Row } from "../../../conversation/message/message.ts";
import type { Found, Reading, StoreRead } from "../../../conversation/ports/store.ts";
import type { MessagePage, PageRequest, Session } from "../../../conversation/session.ts";
import type { AnswerOf, Arg, Reply } from "../contracts.ts";
import { list, memoryOf, number, runView, text } from "../replies.ts";
import type { SessionCalls } from "../session-calls.ts";
import { touch } from "../session/touch.ts";

/**
 * Why there is no reading. "missing": nothing that this owner may see; "other": the key holds what is no history, so no
 * session can begin there; "same": it would show what `request.known` has shown.
 */
export type Absent = "missing" | "other" | "same";

/** A session with pages and ranges of its rows, all of one moment. */
export async function view(
  calls: SessionCalls,
  owner: string,
  sessionId: string,
  request: StoreRead,
): Promise<Reading | Absent> {
  const target = { owner, key: calls.historyKey(sessionId) };
  const badPages = new Map<number, Error>();
  const pages: Arg[] = [];
  pagesOf(request).forEach((page, i) => {
    const places = [page.after, page.before].map((given) => {
      return given === null || given === "" ? null : (parseAnchor(sessionId, target.key, given) ?? invalidCursor());
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
  const args = {
    runId: request.runId ?? "",
    mostBytes: request.mostBytes ?? "",
    known: request.known?.state ?? "",
    pages,
  };
  let answer = await calls.run("view", target, args);
  for (let attempt = 0; answer.code === "TOUCH" && attempt < 5; attempt++) {
    // Both leave in one write (sending.ts): foreign code that writes without a pause would get between them each time.
    const touching = touch(calls, target);
    const viewing = calls.run("view", target, args);
    const [there, viewed] = await Promise.all([touching, viewing]);
    if (!there) return "missing";
    answer = viewed;
  }
  if (answer.code === "TOUCH") throw changesTooFast();
  if (answer.code === "NOT_FOUND") return answer.other === undefined ? "missing" : "other";
  return answer.code === "SAME" ? "same" : readingOf(sessionId, target.key, request, badPages, answer);
}

function pagesOf({ pages, next }: StoreRead): readonly PageRequest[] {
  return next === undefined ? pages : [...pages, next];
}

export function changesTooFast(): ParleyError {
  return new ParleyError("STORE_UNAVAILABLE", "The history changes faster than it can be read. Try again.", {
    retryAfterSeconds: 1,
  });
}

type Viewed = Extract<AnswerOf<"view">, { readonly code: "OK" }>;

/** The pages that could be asked for come first: `badPages` go between them. Then come the ranges, and the one message. */
function readingOf(
  sessionId: string,
  key: string,
  request: StoreRead,
  badPages: ReadonlyMap<number, Error>,
  viewed: Viewed,
): Reading {
  const answered = [...list(viewed.pages)];
  const pages = pagesOf(request).map((_, i) => badPages.get(i) ?? pageOf(answered.shift()));
  const ranges = (request.ranges ?? []).map(() => {
    const [, low, , , rows] = list(answered.shift());
    return rowsOf(number(low), rows);
  });
  const session = sessionOf(sessionId, key, viewed, pages.slice(0, request.pages.length));
  return {
    session,
    run: runView(sessionId, key, session.generation, viewed.run),
    next: pages[request.pages.length] ?? null,
    ranges,
    at: request.at === undefined ? null : foundOf(answered.shift()),
  };
}

/** A list of texts that the script may have packed into one. */
function unpacked(reply: Reply | undefined): readonly string[] {
  return typeof reply === "string" ? reply.split("\0") : list(reply).map(text);
}

/** Rows as LRANGE gives them, newest first, the oldest of them at `low`; here oldest first. */
function rowsOf(low: number, newestFirst: Reply | undefined): readonly Row[] {
  return unpacked(newestFirst)
    .toReversed()
    .map((raw, i) => new ReadRow(low + i, raw));
}

/** A row whose mark is worked out when it is asked for: most of a page's never are. */
export class ReadRow implements Row {
  readonly position: number;
  readonly raw: string;
  #mark: string | null;

  /** `mark`: where it is known. */
  constructor(position: number, raw: string, mark: string | null = null) {
    this.position = position;
    this.raw = raw;
    this.#mark = mark;
  }

  get mark(): string {
    return (this.#mark ??= markOf(this.raw));
  }
}

/** Why there is no page: a place of it does not hold. */
function expiredOf([code, kept, mark]: readonly Reply[]): ParleyError | null {
  if (code === "UNKNOWN") return unknownMessage();
  if (code === "LOST") return new ExpiredCursor(null, true);
  if (code !== "EXPIRED") return null;
  return new ExpiredCursor(kept === undefined ? null : { position: number(kept), mark: text(mark) });
}

function pageOf(reply: Reply | undefined): MessagePage | ParleyError {
  const page = list(reply);
  const expired = expiredOf(page);
  if (expired) return expired;
  const [code, low, previous, next, rows, mark] = page;
  if (code === "LARGE") return new PageTooLarge(number(low));
  const after = mark === undefined ? null : { position: number(low) - 1, mark: text(mark) };
  return { rows: rowsOf(number(low), rows), hasPreviousPage: previous === 1, hasNextPage: next === 1, after };
}

/** The one row of the kind of page "at". */
function foundOf(reply: Reply | undefined): Found | ParleyError {
  const page = list(reply);
  const expired = expiredOf(page);
  if (expired) return expired;
  const [, position, , , rows, mark] = page;
  const [row = null] = rowsOf(number(position), rows);
  return { position: number(position), mark: text(mark), row };
}

function sessionOf(
  sessionId: string,
  historyKey: string,
  viewed: Viewed,
  pages: readonly (MessagePage | Error)[],
): Session {
  const pairs = unpacked(viewed.record);
  const record: Record<string, string> = Object.create(null) as Record<string, string>; // no prototype: field names are data
  for (let i = 0; i < pairs.length; i += 2) record[pairs[i] ?? ""] = pairs[i + 1] ?? "";
  const field = (name: string) => record[name] ?? null;
  const count = (name: string) => Number(record[name] ?? 0);
  const generation = count("gen");
  const base = count("base");
  const messageCount = number(viewed.count);
  const metadata = parseJson(record["metadata"] ?? "{}");
  const ttl = field("ttl");
  const memory = field("mem");
  const expires = number(viewed.expires);
  return {
    sessionId,
    historyKey,
    owner: record["owner"] ?? "",
    title: field("title"),
    instructions: field("instructions"),
    model: field("model"),
    memory: memory === null ? null : memoryOf(`${memory}:${record["memTurns"] ?? ""}:${record["memTokens"] ?? ""}`),
    summary: field("sumText"),
    metadata: isObject(metadata) ? metadata : {},
    archived: field("archived") === "1",
    createdAt: field("created") === null ? null : count("created"),
    updatedAt: count("updated"),
    ttlSeconds: ttl === null ? null : Number(ttl),
    expiresAt: expires > 0 ? expires : null,
    generation,
    base,
    end: base + messageCount,
    tipMark: text(viewed.tipMark),
    messageCount,
    readCount: count("read"),
    usage: { inputTokens: count("iu"), outputTokens: count("ou"), totalTokens: count("tu") },
    activeRun: runView(sessionId, historyKey, generation, viewed.active),
    lastRun: runView(sessionId, historyKey, generation, viewed.last),
    queuedRuns: list(viewed.queue).flatMap((one) => runView(sessionId, historyKey, generation, one) ?? []),
    forkedFrom: field("fork"),
    pages,
    sequence: count("seq"),
    state: text(viewed.state),
  };
}
