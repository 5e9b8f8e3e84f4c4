import { afterAll, beforeAll, expect, test } from "vitest";
import { listSessions } from "../../src/conversation/conversations/listing.ts";
import type { PageRequest, SessionFilter, SessionPage } from "../../src/conversation/session.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { newOp, newRecord, openStore, owner, type TestStore } from "../support/store/store.ts";

// A filter that hardly any session passes: no page reads all, and following the cursors finds all the same.

const most = 100;
const sessions = 330;
/** Newest first, where they lie among the others. */
const rare = [3, 120, 121, 250, 329];

let server: TestRedis;
let at: TestStore;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  at = openStore(server.port);
  for (let i = sessions - 1; i >= 0; i--) {
    const record = newRecord(rare.includes(i) ? `Rare ${i}` : "Usual");
    // Of one millisecond the greater id comes first.
    const sessionId = `session-${String(sessions - i).padStart(3, "0")}`;
    await at.store.create(owner, sessionId, record, newOp());
  }
});
afterAll(async () => {
  at.close();
  await server.stop();
});

const filtered = (titleContains: string): SessionFilter => ({
  titleContains,
  archived: null,
  metadata: null,
  updatedAfter: null,
});

function listed(page: Partial<PageRequest>, filter: SessionFilter): Promise<SessionPage> {
  const whole = { first: null, after: null, last: null, before: null, ...page };
  return listSessions(at.store, owner, whole, filter, { pages: [] }, undefined, most);
}

/** The page, and how many sessions were read for it. */
async function counted(page: Partial<PageRequest>, filter: SessionFilter): Promise<SessionPage & { reads: number }> {
  let reads = 0;
  at.scripts.beforeRun = (name) => (reads += name === "view" ? 1 : 0);
  const result = await listed(page, filter);
  at.scripts.beforeRun = () => undefined;
  return { ...result, reads };
}

const titles = (found: readonly number[]) => found.map((i) => `Rare ${i}`);

test("forwards: each page looks through so many and no more, and endCursor goes on from there", async () => {
  const pages: (readonly (string | null)[])[] = [];
  let after: string | null = null;
  for (;;) {
    const page: SessionPage & { reads: number } = await counted({ first: 2, after }, filtered("rare"));
    // The page itself, and a look in each of both directions for whether there is more.
    expect(page.reads).toBeLessThanOrEqual(3 * most);
    pages.push(page.items.map(({ session }) => session.title));
    expect(page.hasPreviousPage).toBe(pages.length > 1);
    if (!page.hasNextPage) break;
    expect(page.endCursor).not.toBeNull();
    after = page.endCursor;
  }
  expect(pages.flat()).toEqual(titles(rare));
  expect(pages[0]).toEqual(titles([3]));
});

test("backwards: startCursor goes on", async () => {
  const found: (string | null)[] = [];
  let before: string | null = null;
  for (;;) {
    const page: SessionPage = await listed({ last: 2, before }, filtered("rare"));
    found.unshift(...page.items.map(({ session }) => session.title));
    if (!page.hasPreviousPage) break;
    expect(page.startCursor).not.toBeNull();
    before = page.startCursor;
  }
  expect(found).toEqual(titles(rare));
});

test("what nothing passes ends, page by page", async () => {
  let pages = 0;
  let after: string | null = null;
  for (;;) {
    const page: SessionPage = await listed({ first: 10, after }, filtered("nowhere"));
    pages += 1;
    expect(page.items).toEqual([]);
    if (!page.hasNextPage) break;
    after = page.endCursor;
  }
  expect(pages).toBe(Math.ceil(sessions / most));
});

test("without such a filter a page ends at its own items", async () => {
  const page = await listed({ first: 20 }, filtered(""));
  expect([page.items.length, page.hasNextPage, page.hasPreviousPage]).toEqual([20, true, false]);
  expect([page.startCursor, page.endCursor]).toEqual([page.items[0]?.cursor, page.items.at(-1)?.cursor]);
});
