import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { compare, inRounds, warm, type Benchmark, type Contender, type Figures, type Stage } from "../benchmark.ts";
import type { Publisher, Writer } from "../clients/publisher.ts";
import type { Readers } from "../clients/readers.ts";
import type { BenchProcess } from "../processes.ts";
import { replyText } from "../model.ts";
import { chatMessageSubscription, eventSubscription, tokenSubscription } from "../queries.ts";
import { redisUsage } from "../redis-usage.ts";
import { fillSessions } from "../sessions.ts";

const perSecond = 250;
const windowSeconds = 4;
/** Until each socket was pinged once. */
const idleSeconds = 25;
const aloneSeconds = 10;
/** Behind its start a gateway prepares itself: until it only waits. */
const startedMs = 6000;
const rounds = 5;
const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };
const parley = { file: "parley.ts", note: "" };
const langchain = "Parley, LangChain's LPUSH";
const quiet = `${langchain}, keyspace events off`;

interface Server {
  readonly name: string;
  readonly note: string;
  readonly file: string;
  readonly how: Writer;
}

const baselines: readonly Server[] = [
  {
    name: "Yoga pub/sub",
    note: "createPubSub + redis-event-target + graphql-ws as the guides have it; gaps are not filled",
    file: "baselines/yoga.ts",
    how: "redis",
  },
  {
    name: "graphql-redis-subscriptions",
    note: "with graphql-ws; gaps are not filled",
    file: "baselines/graphql-redis-subscriptions.ts",
    how: "redis",
  },
  {
    name: "raw ws + pub/sub",
    note: "no GraphQL, no owner; gaps are not filled",
    file: "baselines/raw-ws.ts",
    how: "redis",
  },
];

/** What all chats of one benchmark share. */
interface Chats {
  readonly stage: Stage;
  readonly redis: Redis;
  readonly sessions: number;
  readonly publisher: BenchProcess<Publisher>;
}

/** How much CPU the server and Redis take in a second while nothing happens, in µs. */
async function idleRates(
  redis: Redis,
  server: BenchProcess,
  seconds: number,
): Promise<{ readonly server: number; readonly redis: number }> {
  const [before, redisBefore] = [await server.usage(), await redisUsage(redis)];
  await sleep(seconds * 1000);
  const [after, redisAfter] = [await server.usage(), await redisUsage(redis)];
  return {
    server: (after.cpuUs - before.cpuUs) / seconds,
    redis: (redisAfter.cpuUs - redisBefore.cpuUs) / seconds,
  };
}

/** Each reader must get each message of its session once and in order. The messages are written in another process. */
async function chatsContender(chats: Chats, { name, note, file, how }: Server): Promise<Contender> {
  const { stage, redis, sessions, publisher } = chats;
  const tag = name.replaceAll(/\W+/g, "-");
  const sessionIds = Array.from({ length: sessions }, (_, i) => `chats-${tag}-${i}`);
  await fillSessions(stage.redisUrl, sessionIds, 1);
  const server = await stage.start(file, { pace });
  const readers = await stage.start<Readers>("clients/readers.ts");
  await sleep(startedMs);
  const alone = await idleRates(redis, server, aloneSeconds);
  const variables = sessionIds.map((sessionId) => ({ sessionId }));
  const url = `${server.url}/graphql`;
  await readers.order("open", { url, count: sessions, query: chatMessageSubscription, variables });
  let sent = 0;
  const publish = async (count: number) => {
    await publisher.order("publish", { how, sessionIds, from: sent + 1, count, perSecond });
    sent += count;
  };
  // Nobody says when a subscription over graphql-ws has begun: it has when a message reaches its reader.
  for (let tries = 0; (await readers.order("answered", undefined)) < sessions; tries++) {
    if (tries > 20) throw new Error(`${name}: some subscribers get nothing`);
    await publish(1);
    await sleep(500);
  }
  await readers.order("deliveries", { through: sent });
  const count = Math.max(1, Math.round((perSecond * windowSeconds) / sessions));
  const busy = async (): Promise<Figures> => {
    const [before, redisBefore, startedAt] = [await server.usage(), await redisUsage(redis), performance.now()];
    await publish(count);
    const { deliveries, p50Ms, p99Ms } = await readers.order("deliveries", { through: sent });
    const [after, redisAfter] = [await server.usage(), await redisUsage(redis)];
    if (deliveries !== count * sessions) throw new Error(`${name}: ${deliveries} deliveries`);
    const seconds = (performance.now() - startedAt) / 1000;
    return {
      cpuUs: (after.cpuUs - before.cpuUs) / deliveries,
      redisUs: (redisAfter.cpuUs - redisBefore.cpuUs - seconds * idleOfAll) / deliveries,
      p50Ms,
      p99Ms,
    };
  };
  await warm(3, busy);
  const idle = await idleRates(redis, server, idleSeconds);
  // What the other contenders' servers ask of Redis meanwhile is not this one's.
  idleOfAll = idle.redis;
  const idleFigures = {
    idleUs: (idle.server - alone.server) / sessions,
    redisIdleUs: (idle.redis - alone.redis) / sessions,
  };
  const window = async () => ({ ...(await busy()), ...idleFigures });
  return { name, note, window, warmUp: () => Promise.resolve() };
}

/** What Redis takes in a second for the idle sessions of all that have been opened. */
let idleOfAll = 0;

function chats(sessions: number): Benchmark {
  return {
    name: `chats-${sessions}`,
    title: `${sessions} sessions with one WebSocket reader each, ${perSecond} messages a second in all, written elsewhere: CPU of the readers' server, idle included`,
    async run(stage) {
      const redis = new Redis(stage.redisUrl);
      const world: Chats = { stage, redis, sessions, publisher: await stage.start<Publisher>("clients/publisher.ts") };
      const contenders: Contender[] = [];
      for (const server of [{ name: "Parley", how: "parley" as const, ...parley }, ...baselines])
        contenders.push(await chatsContender(world, server));
      const inTurn = await inRounds(contenders, rounds);
      const pushed = await inRounds([await chatsContender(world, { name: langchain, how: "langchain", ...parley })], 2);
      await redis.config("SET", "notify-keyspace-events", "");
      const unheard = await inRounds([await chatsContender(world, { name: quiet, how: "langchain", ...parley })], 2);
      redis.disconnect();
      const results = [...inTurn, ...pushed, ...unheard];
      const against = (what: string, to: string, goal: number | null, of = "Parley") =>
        compare(results, { what, of, to, metric: "cpuUs", form: "ratio", goal });
      const idle = (metric: "idleUs" | "redisIdleUs", what: string, goal: number) =>
        compare(results, { what, of: "Parley", to: null, metric, form: "value", goal });
      return {
        contenders: results,
        comparisons: [
          against("a message to its one reader, against Yoga pub/sub", "Yoga pub/sub", 0.5),
          against("against graphql-redis-subscriptions", "graphql-redis-subscriptions", null),
          against("against raw ws + pub/sub", "raw ws + pub/sub", 1.5),
          against("a message of LangChain's, against Yoga pub/sub", "Yoga pub/sub", null, langchain),
          against("the same with keyspace events off", "Yoga pub/sub", null, quiet),
          idle("idleUs", "what a followed session adds in a second without messages", 5),
          idle("redisIdleUs", "the same, in Redis", 2),
        ],
      };
    },
  };
}

const replies = 200;
/** 50 tokens a second. */
const streamed = { tokens: 250, firstTokenMs: 0, tokenMs: 20 };

/** Each reader must have its reply whole, character for character. The replies are made in another process. */
async function repliesContender(
  stage: Stage,
  publisher: BenchProcess<Publisher>,
  { name, note, file }: Pick<Server, "name" | "note" | "file">,
): Promise<Contender> {
  const sessionIds = Array.from({ length: replies }, (_, i) => `replies-${file.replaceAll(/\W+/g, "-")}-${i}`);
  await fillSessions(stage.redisUrl, sessionIds, 1);
  const server = await stage.start(file, { pace });
  const readers = await stage.start<Readers>("clients/readers.ts");
  const isParley = file === parley.file;
  const query = isParley ? eventSubscription : tokenSubscription;
  const variables = sessionIds.map((sessionId) => ({ sessionId }));
  await readers.order("open", { url: `${server.url}/graphql`, count: replies, query, variables });
  // Nobody says when a subscription over graphql-ws has begun: it has when a token reaches its reader.
  for (let tries = 0; (await readers.order("answered", undefined)) < replies; tries++) {
    if (tries > 20) throw new Error(`${name}: some subscribers get nothing`);
    if (!isParley) await publisher.order("stream", { sessionIds, tokens: 1, tokenMs: 0 });
    await sleep(500);
  }
  const { tokens, tokenMs } = streamed;
  const window = async () => {
    const before = await server.usage();
    if (isParley) await publisher.order("replies", { sessionIds });
    else await publisher.order("stream", { sessionIds, tokens, tokenMs });
    await readers.order("reply", { text: replyText(tokens), limitMs: 60_000 });
    const after = await server.usage();
    return { cpuMs: (after.cpuUs - before.cpuUs) / 1000 / replies };
  };
  return { name, note, window };
}

export const chatsOfReplies: Benchmark = {
  name: "chats-replies",
  title: `${replies} replies at a time of ${streamed.tokens} tokens at 50/s, made elsewhere, each to one WebSocket reader: CPU of the readers' server a reply`,
  async run(stage) {
    const publisher = await stage.start<Publisher>("clients/publisher.ts", { pace: streamed });
    const servers = [
      { name: "Parley", ...parley },
      { name: "Yoga, one event a token", note: "createPubSub + redis-event-target", file: "baselines/yoga.ts" },
    ];
    const contenders: Contender[] = [];
    for (const server of servers) contenders.push(await repliesContender(stage, publisher, server));
    const results = await inRounds(contenders, 2);
    const what = "a streamed reply to its one reader, against one event a token on Yoga";
    const against = { of: "Parley", to: "Yoga, one event a token" };
    return {
      contenders: results,
      comparisons: [compare(results, { what, ...against, metric: "cpuMs", form: "ratio", goal: 0.25 })],
    };
  },
};

export const chatsOf300 = chats(300);
export const chatsOf1000 = chats(1000);
