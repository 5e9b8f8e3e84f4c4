import assert from "node:assert/strict";
import { compare, inRounds, type Benchmark } from "../benchmark.ts";
import { graphqlBody, pageQuery } from "../queries.ts";
import { fillSessions, roleOf, sentence } from "../sessions.ts";
import { httpContenders } from "./http.ts";

const sessionIds = Array.from({ length: 16 }, (_, i) => `page-${10 + i}`);
/** More than a gateway remembers to have been asked for: when one's turn comes again, that is as if it had never come. */
const manySessionIds = Array.from({ length: 4500 }, (_, i) => `many-${1000 + i}`);
const messages = 200;
/** Of each of the many: no page tells how long the rest is. */
const fewMessages = 51;

interface PageAnswer {
  readonly data: {
    readonly session: {
      readonly messages: {
        readonly nodes: readonly Readonly<
          Record<"id" | "position" | "role" | "text" | "createdAt" | "cursor", unknown>
        >[];
        readonly pageInfo: { readonly hasPreviousPage: boolean; readonly startCursor: string };
      };
    };
  };
}

const newest = (count: number) => Array.from({ length: 50 }, (_, i) => count - 50 + i);

/** All 50 messages, in order, character for character, with ids and cursors that differ. */
function checkPage(answer: string, sessionId: string, count: number): void {
  const { nodes, pageInfo } = (JSON.parse(answer) as PageAnswer).data.session.messages; // Safe: else it throws.
  assert.deepEqual(
    nodes.map(({ position, role, text }) => ({ position, role, text })),
    newest(count).map((i) => ({ position: i, role: roleOf(i), text: sentence(sessionId, i) })),
  );
  for (const key of ["id", "cursor"] as const) assert.equal(new Set(nodes.map((node) => node[key])).size, 50);
  for (const { createdAt } of nodes) assert.ok(Date.parse(String(createdAt)) > 0);
  assert.deepEqual(pageInfo, { hasPreviousPage: true, startCursor: nodes[0]?.cursor });
}

function checkRows(answer: string, which: number): void {
  const rows = JSON.parse(answer) as readonly { readonly data: { readonly content: string } }[]; // Safe: else it throws.
  assert.deepEqual(
    rows.map(({ data }) => data.content),
    newest(messages).map((i) => sentence(sessionIds[which] ?? "", i)),
  );
}

export const pages: Benchmark = {
  name: "pages",
  title: "the newest page of 50 messages, 32 connections",
  async run(stage) {
    await fillSessions(stage.redisUrl, sessionIds, messages);
    await fillSessions(stage.redisUrl, manySessionIds, fewMessages);
    const pagesOf = (ids: readonly string[], count: number) => ({
      path: "/graphql",
      bodies: ids.map((sessionId) => graphqlBody(pageQuery, { sessionId })),
      check: (answer: string, which: number) => checkPage(answer, ids[which] ?? "", count),
    });
    const graphql = pagesOf(sessionIds, messages);
    const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };
    const servers = [
      {
        name: "Parley",
        note: "16 pages that are read again and again, and read the same: all contenders have these",
        process: await stage.start("parley.ts", { pace }),
        ...graphql,
      },
      {
        name: "Parley, new pages",
        note: `${manySessionIds.length} pages in turn: nothing that was read before helps`,
        process: await stage.start("parley.ts", { pace }),
        ...pagesOf(manySessionIds, fewMessages),
      },
      {
        name: "Yoga + Pothos",
        note: "as its guides have it; checks the owner, sees no foreign or lost rows, cursors hold no generation",
        process: await stage.start("baselines/yoga.ts", { pace }),
        ...graphql,
      },
      {
        name: "Mercurius + jit",
        note: "the same schema in SDL, the same reading",
        process: await stage.start("baselines/mercurius.ts"),
        ...graphql,
      },
      {
        name: "node:http + LRANGE",
        note: "stored rows joined: no GraphQL, no owner, no selection, no check of anything",
        process: await stage.start("baselines/bare-http.ts"),
        path: "/",
        bodies: sessionIds.map((sessionId) => JSON.stringify({ sessionId })),
        check: checkRows,
      },
    ];
    const contenders = await inRounds(await httpContenders(stage, servers), 8);
    const against = (to: string, goal: number | null, of = "Parley") => {
      const what = of === "Parley" ? `a page, against ${to}` : `a page that was not read before, against ${to}`;
      return compare(contenders, { what, of, to, metric: "cpuUs", form: "ratio", goal });
    };
    return {
      contenders,
      comparisons: [
        against("Yoga + Pothos", 1 / 3),
        against("Mercurius + jit", 1),
        against("node:http + LRANGE", null),
        against("Yoga + Pothos", 0.7, "Parley, new pages"),
        against("Mercurius + jit", 1.2, "Parley, new pages"),
      ],
    };
  },
};
