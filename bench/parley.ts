import { anonymous } from "../src/conversation/session.ts";
import type { PageRequest } from "../src/conversation/session.ts";
import { createGateway, type MemoryOptions } from "../src/gateway.ts";
import { agentsOf } from "./agents/kinds.ts";
import { openaiKey, openaiModel, PacedModel, type Pace } from "./model.ts";
import { settings, takeOrders, timed } from "./orders.ts";
import { newMessage } from "./sessions.ts";

// Parley as its users run it, with a model that keeps a pace, or with OpenAI's client and a server for it.

const { redisUrl, pace, openaiUrl, memory, withAgents } = settings<{
  readonly redisUrl: string;
  readonly pace: Pace;
  readonly openaiUrl?: string;
  readonly memory?: Partial<MemoryOptions>;
  readonly withAgents?: boolean;
}>();
const model = new PacedModel(pace);
const gateway = await createGateway({
  redis: redisUrl,
  production: true,
  // The benchmarks' clients are all at one address; the limit is counted, and not met.
  maxSocketsPerAddress: 100_000,
  customModels: { paced: model },
  // The baselines make none: the same work is compared.
  autoTitle: false,
  ...(openaiUrl === undefined
    ? { model: "paced" }
    : { model: `openai:${openaiModel}`, openai: { apiKey: openaiKey, baseUrl: openaiUrl } }),
  ...(memory ? { memory } : {}),
  ...(withAgents === true ? { agents: agentsOf(pace) } : {}),
});
const { conversations } = gateway;

const page = (part: Partial<PageRequest>): PageRequest => ({
  first: null,
  after: null,
  last: null,
  before: null,
  ...part,
});

interface TurnsOrder {
  readonly sessionIds: readonly string[];
  readonly atOnce: number;
  readonly model?: string | null;
}

const orders = {
  modelEndedAt: (): number => model.endedAtMs,

  /** Whole turns, without GraphQL. `model` null: the default, a ConversationChain. */
  turns: ({ sessionIds, atOnce, model: chosen = null }: TurnsOrder) =>
    timed(sessionIds.length, atOnce, async (i) => {
      const sessionId = sessionIds[i] ?? "";
      const { reply } = await conversations.sendMessage(
        { viewer: anonymous, signal: new AbortController().signal, whileWaiting: (work) => work() },
        {
          sessionId,
          newSession: null,
          content: [{ kind: "text", text: "Hello" }],
          messageId: null,
          idempotencyKey: null,
          whenBusy: "QUEUE",
          replaceFrom: null,
          model: chosen,
        },
        // As for `{ reply { text } }`, which has nothing of the session in it.
        null,
        true,
      );
      if (reply === null) throw new Error("There is no reply");
    }),

  pages: ({
    sessionId,
    count,
    newest,
  }: {
    readonly sessionId: string;
    readonly count: number;
    readonly newest: boolean;
  }) =>
    timed(count, 1, async () => {
      const pages = [page(newest ? { last: 50 } : { first: 50 })];
      const session = await conversations.readSession(anonymous, sessionId, { pages });
      const answer = session?.pages[0];
      if (answer === undefined || answer instanceof Error || answer.rows.length !== 50)
        throw new Error("The page is not whole");
    }),

  appends: ({ sessionIds, chars = 1 }: { readonly sessionIds: readonly string[]; readonly chars?: number }) =>
    timed(sessionIds.length, 1, async (i) => {
      const messages = [newMessage("x".repeat(chars))];
      const input = { sessionId: sessionIds[i] ?? "", messages, idempotencyKey: null };
      await conversations.addMessages(anonymous, input, { pages: [] });
    }),
};

export type ParleyOrders = typeof orders;

takeOrders(orders, (await gateway.listen({ port: 0 })).url);
