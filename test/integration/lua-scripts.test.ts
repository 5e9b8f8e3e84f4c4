import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { BeginTurn, StartedTurn } from "../../src/conversation/ports/store.ts";
import { sessionKeys, sharedKeys } from "../../src/redis/store/keys.ts";
import { sessionScripts, type Reply, type SessionScript } from "../../src/redis/scripts/contracts.ts";
import { scriptOf } from "../../src/redis/scripts/scripts.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { readWhole, scriptCases, started, textsOf } from "../support/store/script-cases.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import {
  completed,
  contents,
  foreignRow,
  keysByPart,
  must,
  newOp,
  newRecord,
  newTurn,
  openStore,
  owner,
  type TestStore,
} from "../support/store/store.ts";
import { startProxy, type TcpProxy } from "../support/redis/tcp-proxy.ts";

const names = Object.keys(sessionScripts) as SessionScript[]; // keys of the table itself
/** Lists that are written beside the scripts, awaited by nobody, and copies under way, which go by themselves. */
const beside = /^parley:(?:sessions|due|expiries)|:staging-/;

let server: TestRedis;
let proxy: TcpProxy;
let at: TestStore;
let far: TestStore;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  proxy = await startProxy(server.port);
  at = openStore(server.port);
  far = openStore(proxy.port, { indexPort: server.port, processId: at.processId });
  // So that a lost reply is never a NOSCRIPT.
  for (const name of names) await at.redis.script("LOAD", scriptOf(name).text);
});

beforeEach(() => at.redis.flushdb());

afterAll(async () => {
  at.close();
  far.close();
  await proxy.close();
  await server.stop();
});

function newId(name: string): string {
  return `${name}-${randomUUID()}`;
}

/** An answer without what time it is, and without whether it was the first, which alone writes the index. */
function essence(answer: readonly Reply[]): unknown {
  const withoutTime = (reply: Reply): unknown => {
    if (typeof reply !== "string" || !reply.startsWith('{"')) return reply;
    const value = JSON.parse(reply) as Record<string, unknown>; // a head or a run: JSON objects
    // Where a turn is free, it is due a moment from now.
    const due = value["free"] === true ? Number(value["due"]) - Number(value["now"]) : value["due"];
    return { ...value, now: null, added: null, indexed: null, due };
  };
  return answer.map((reply, i) => (i === 0 ? String(reply).replace("KNOWN", "OK") : withoutTime(reply)));
}

describe("sent twice with the same op, a script gives the same result and writes nothing", () => {
  test.each(names.filter((name) => name !== "renew"))("%s", async (name) => {
    const id = newId(name);
    const act = await scriptCases[name].prepare(at, id);
    await scriptCases[name].effect(at, id, await act(at), false);
    const call = must(at.scripts.last.get(name));
    const before = await contents(at.redis, beside);
    const [first, second] = [await call.answer, await at.scripts.again(call)];
    expect(await contents(at.redis, beside)).toEqual(before);
    if (name === "create" || name === "fork") expect(second).toEqual(["KNOWN", call.args[5]]);
    else if (name === "progress") expect(second).toEqual(["LENGTH", "3", "17"]);
    else if (name !== "view") expect(essence(second)).toEqual(essence(first));
  });

  test("renew extends the lease, and nothing else", async () => {
    const id = newId("renew");
    const act = await scriptCases.renew.prepare(at, id);
    await act(at);
    const call = must(at.scripts.last.get("renew"));
    const { session } = keysByPart(id);
    const before = await contents(at.redis, beside);
    const record = await at.redis.hgetall(session ?? "");
    expect(await at.scripts.again(call)).toEqual(["OK"]);
    const { until, ...rest } = await at.redis.hgetall(session ?? "");
    expect(Number(until)).toBeGreaterThanOrEqual(Number(record["until"]));
    expect({ ...rest, until: record["until"] }).toEqual(record);
    expect({ ...(await contents(at.redis, beside)), [session ?? ""]: before[session ?? ""] }).toEqual(before);
  });

  test("a turn sent again after 200 later ones has its run still (P8)", async () => {
    const id = newId("runs");
    const op = { id: "m:first", fingerprint: "f" };
    const start = async (turn: BeginTurn): Promise<StartedTurn> => {
      const answer = await at.store.begin(owner, id, turn);
      if (answer.kind !== "started") throw new Error(`The turn is ${answer.kind}`);
      return answer;
    };
    const first = await start(newTurn(id, "first", { op }));
    await at.store.finish(first, completed(first, "answer to the first"), "i:first");
    for (let i = 0; i < 201; i++) {
      const turn = await start(newTurn(id, `later ${i}`));
      await at.store.finish(turn, completed(turn, "later"), `i:${i}`);
    }
    const known = await at.store.begin(owner, id, newTurn(id, "first", { op }));
    expect(known).toEqual({ kind: "known", fingerprint: "f", runId: first.runId });
    const { run } = must(await at.store.read(owner, id, { pages: [], runId: first.runId }));
    expect(run).toMatchObject({ status: "COMPLETED", text: "answer to the first" });
    expect(run?.inputRow).toContain("first");
  });

  test("a turn sent again after it was stopped is known, not waiting", async () => {
    const id = newId("begin");
    const turn = newTurn(id, "question");
    await at.store.begin(owner, id, turn);
    await at.store.cancel(owner, id, turn.runId);
    expect(await at.store.begin(owner, id, turn)).toEqual({ kind: "known", fingerprint: "f", runId: turn.runId });
  });
});

const makers: Readonly<Record<string, (key: string) => Promise<unknown>>> = {
  string: (key) => at.redis.set(key, "text"),
  list: (key) => at.redis.lpush(key, foreignRow("foreign")),
  hash: (key) => at.redis.hset(key, "field", "value"),
  zset: (key) => at.redis.zadd(key, 1, "member"),
  set: (key) => at.redis.sadd(key, "member"),
  stream: (key) => at.redis.xadd(key, "*", "field", "value"),
};
const rightType: Readonly<Record<string, string>> = {
  history: "list",
  session: "hash",
  runs: "hash",
  partial: "string",
  queue: "list",
  ops: "hash",
  "ops-due": "zset",
};

describe("over a key of a wrong type a script writes nothing", () => {
  test.each(names)("%s", async (name) => {
    const id = newId(name);
    const act = await scriptCases[name].prepare(at, id);
    const keys = keysByPart(id);
    const saved = await Promise.all(Object.values(keys).map((key) => at.redis.dumpBuffer(key)));
    await act(at);
    const call = must(at.scripts.last.get(name));
    for (const [part, key] of Object.entries(keys)) {
      for (const type of Object.keys(makers).filter((one) => one !== rightType[part])) {
        for (const [i, one] of Object.values(keys).entries()) {
          await at.redis.del(one);
          const dump = saved[i];
          if (dump) await at.redis.restore(one, 0, dump);
        }
        await at.redis.del(key);
        await makers[type]?.(key);
        const before = await contents(at.redis, beside);
        const [code] = await at.scripts.again(call);
        const absent = ["create", "fork", "restore"].includes(name) ? "EXISTS" : "NOT_FOUND";
        expect([part, type, code]).toEqual([part, type, part === "history" ? absent : "CORRUPT"]);
        expect(await contents(at.redis, beside)).toEqual(before);
      }
    }
  });

  test("fork, over a copy that is not whole or no list", async () => {
    const id = newId("fork");
    const act = await scriptCases.fork.prepare(at, id);
    await act(at);
    const call = must(at.scripts.last.get("fork"));
    await at.redis.del(...Object.values(keysByPart(id)));
    const staging = must(call.keys[8]);
    await at.redis.lpush(staging, foreignRow("one"));
    const before = await contents(at.redis);
    expect(await at.scripts.again(call)).toEqual(["STAGING"]);
    expect(await contents(at.redis)).toEqual(before);
    await at.redis.set(staging, "text");
    await expect(at.scripts.again(call)).rejects.toThrow("WRONGTYPE");
    expect(await at.redis.exists(id)).toBe(0);
  });
});

describe("with its reply lost on the wire a script has run once, and its caller gets the result", () => {
  test.each(names)("%s", async (name) => {
    const id = newId(name);
    const act = await scriptCases[name].prepare(at, id);
    await far.redis.ping();
    const lost: Promise<void>[] = [];
    far.scripts.beforeRun = (script) => {
      if (script === name) lost.push(proxy.loseNextReply());
    };
    const dropped = proxy.droppedBytes;
    const result = await act(far);
    // Once only: it was the connection that sent it again, not the caller.
    expect(lost.length).toBe(1);
    await Promise.all(lost);
    expect(proxy.droppedBytes).toBeGreaterThan(dropped);
    far.scripts.beforeRun = () => undefined;
    await scriptCases[name].effect(at, id, result, true);
  });
});

describe("on a full server", () => {
  const full = async <T>(work: () => Promise<T>): Promise<T> => {
    await at.redis.config("SET", "maxmemory", "1");
    try {
      return await work();
    } finally {
      await at.redis.config("SET", "maxmemory", "0");
    }
  };

  test.each(names.filter((name) => sessionScripts[name].effect === "writes"))("%s is refused whole", async (name) => {
    const id = newId(name);
    const act = await scriptCases[name].prepare(at, id);
    const before = await contents(at.redis, beside);
    await full(() => expect(act(at)).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" }));
    expect(await contents(at.redis, beside)).toEqual(before);
    // Once there is room the same call goes through.
    await scriptCases[name].effect(at, id, await act(at), false);
  });

  test.each(names.filter((name) => sessionScripts[name].effect !== "writes"))("%s works", async (name) => {
    const id = newId(name);
    const act = await scriptCases[name].prepare(at, id);
    await full(async () => {
      await scriptCases[name].effect(at, id, await act(at), false);
    });
  });

  test("a history that foreign code appended to can be read", async () => {
    const id = newId("read");
    const turn = await started(at, id, "question");
    await at.redis.lpush(id, foreignRow("foreign"));
    await full(async () => {
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["question", "foreign"]);
      expect(session.activeRun?.runId).toBe(turn.runId);
      expect(await at.store.list(owner, { direction: "older", from: null, count: 5 })).not.toEqual([]);
    });
  });
});

describe("for a user who may not publish", () => {
  const silent = names.filter((name) => !["renew", "summary", "view", "waiting"].includes(name));
  let barred: TestStore;

  beforeAll(async () => {
    await at.redis.call("ACL", "SETUSER", "barred", "on", ">secret", "~*", "+@all", "resetchannels");
    const connection = { username: "barred", password: "secret" };
    barred = openStore(server.port, { connection, processId: at.processId });
  });
  afterAll(() => barred.close());

  test.each(silent)("%s fails before its first write", async (name) => {
    const id = newId(name);
    const act = await scriptCases[name].prepare(at, id);
    const before = await contents(at.redis, beside);
    await expect(act(barred)).rejects.toThrow(/publish|NOPERM/);
    expect(await contents(at.redis, beside)).toEqual(before);
  });
});

test("the deadlines' scripts sent twice claim once and settle once", async () => {
  const key = "test:due";
  await at.redis.zadd(key, 1, "a", 2, "b", Date.now() + 60_000, "later");
  const claim = (from: string) => at.scripts.call("due-claim", [from], { holdMs: 5000, most: 50 });
  const first = await claim(key);
  expect(first.members).toEqual(["a", "b"]);
  expect((await claim(key)).members).toEqual([]);
  await at.redis.zadd(key, 7, "b");
  const settle = (member: string, from = key) =>
    at.scripts.call("due-settle", [from], { member, claim: String(first.claim) });
  const removed = [await settle("a"), await settle("a"), await settle("b")].map((answer) => answer.removed);
  expect(removed).toEqual([1, 0, 0]);
  expect(await at.redis.zrange(key, 0, "-1")).toEqual(["b", "later"]);
  await at.redis.set(`${key}:text`, "text");
  await expect(claim(`${key}:text`)).rejects.toThrow("WRONGTYPE");
  await expect(settle("a", `${key}:text`)).rejects.toThrow("WRONGTYPE");
});

test("each script declares all keys that it uses", async () => {
  const id = newId("declared");
  const client = new Redis(server.url);
  const monitor = await client.monitor();
  const seen = new Set<string>();
  const done = new Promise<void>((resolve) => {
    monitor.on("monitor", (_time: string, args: string[], source: string) => {
      if (source === "lua") seen.add(args[1] ?? "");
      if (args[0]?.toUpperCase() === "ECHO") resolve();
    });
  });
  await started(at, id, "question");
  await at.store.begin(owner, id, newTurn(id, "next"));
  await at.store.append(owner, id, [], newOp());
  await at.store.clear(owner, id);
  await at.store.remove(owner, id);
  await at.redis.echo("done");
  await done;
  monitor.disconnect();
  client.disconnect();
  const { sessions, due, list } = sharedKeys("");
  const index = [sessions(owner), due, list(owner)];
  expect(at.scripts.last.get("begin")?.keys.slice(-3)).toEqual(index);
  const allowed = new Set<string>([...sessionKeys(id).all, ...sessionKeys(id).checkpoints, ...index, ""]);
  expect(seen.size).toBeGreaterThan(5);
  expect([...seen].filter((key) => !allowed.has(key))).toEqual([]);
});

describe("on one server a turn's scripts write the index", () => {
  const { sessions, due, list } = sharedKeys("");
  const usage = { inputTokens: 1, outputTokens: 1, totalTokens: 2 };

  test("the owner's list, the deadline while somebody is needed, and the sidebar's news", async () => {
    const id = newId('turn/"é');
    const sidebar = new Redis(server.url);
    const news: unknown[] = [];
    sidebar.on("message", (_channel, text: string) => news.push(JSON.parse(text)));
    await sidebar.subscribe(list(owner));
    const turn = await started(at, id, "question");
    const { session } = await readWhole(at, id);
    expect(await at.redis.zscore(sessions(owner), id)).toBe(String(session.updatedAt));
    expect(await at.redis.zscore(due, id)).toBe(await at.redis.hget(sessionKeys(id).session, "until"));
    await at.store.begin(owner, id, newTurn(id, "next"));
    await at.store.finish(turn, completed(turn, "answer", usage), "i:1");
    // One waits: it is due soon.
    expect(Number(await at.redis.zscore(due, id)) - Date.now()).toBeLessThan(5000);
    const next = must((await at.store.attend(id, true)).turn);
    await at.store.finish(next, completed(next, "answer", usage), "i:2");
    expect(await at.redis.zscore(due, id)).toBeNull();
    await waitUntil("the news is there", () => Promise.resolve(news.length === 5));
    expect(news).toEqual(["added", ...Array.from({ length: 4 }, () => "updated")].map((kind) => ({ key: id, kind })));
    sidebar.disconnect();
  });

  test("a turn that does not begin writes nothing to the index", async () => {
    const id = newId("another's");
    await at.store.create("ann", id, { ...newRecord("Ann's"), ttlSeconds: null }, newOp());
    expect((await at.store.begin(owner, id, newTurn(id, "question"))).kind).toBe("notFound");
    expect(await Promise.all([sessions(owner), due].map((key) => at.redis.zscore(key, id)))).toEqual([null, null]);
  });

  test("a failure there is reported, and the turn stands", async () => {
    const id = newId("foreign");
    await at.redis.set(due, "a text");
    const told = at.indexErrors.length;
    await started(at, id, "question");
    expect(textsOf((await readWhole(at, id)).session)).toEqual(["question"]);
    expect(String(at.indexErrors[told])).toContain("WRONGTYPE");
    expect(await at.redis.zscore(sessions(owner), id)).not.toBeNull();
  });
});

test("what a script has answered does not stay in the command that brought it", async () => {
  const asked = vi.spyOn(at.redis, "evalsha");
  const id = newId("answer");
  await must(scriptCases.view)
    .prepare(at, id)
    .then((act) => act(at));
  const kept: unknown = await must(asked.mock.results.at(-1)).value;
  asked.mockRestore();
  expect(must(at.scripts.last.get("view")).name).toBe("view");
  expect((await must(at.scripts.last.get("view")).answer)[0]).toBe("OK");
  expect(kept).toEqual([]);
});
