import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { encodeCursor, parseCursor } from "../../src/conversation/message/cursor.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { elsewhere, probes, subscriptions } from "../support/gateway/probes.ts";
import type { Known } from "../support/gateway/probes.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import type { Caller } from "../support/gateway/tenant.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";
import type { TokenOptions } from "../support/gateway/tokens.ts";

const prefix = "chat:";
const jwt = { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 5, cookie: null } as const;
const send = `mutation Send($sessionId: String!, $text: String!, $messageId: String) {
  sendMessage(input: { sessionId: $sessionId, text: $text, messageId: $messageId }) {
    run { id } userMessage { id cursor } reply { id text } session { id sessionId messageCount }
  }
}`;
const create = `mutation Create($sessionId: String, $key: String) {
  createSession(input: { sessionId: $sessionId, idempotencyKey: $key }) { session { sessionId } }
}`;
const count = `query Count($sessionId: String!) { session(sessionId: $sessionId) { messageCount } }`;
const list = `query List($owner: String) { sessions(filter: { owner: $owner }) { nodes { sessionId title messages { nodes { text run { text } session { sessionId } } } } } }`;
const notFound = '200 {"code":"NOT_FOUND"} There is no such session. It may have been deleted, or it may have expired.';

interface Sent {
  readonly sendMessage: {
    readonly run: { readonly id: string };
    readonly userMessage: { readonly id: string; readonly cursor: string };
    readonly reply: { readonly id: string; readonly text: string };
    readonly session: { readonly id: string; readonly sessionId: string; readonly messageCount: number };
  };
}
interface Listed {
  readonly sessions: {
    readonly nodes: readonly {
      readonly sessionId: string;
      readonly messages: {
        readonly nodes: readonly {
          readonly text: string;
          readonly run: { readonly text: string } | null;
          readonly session: { readonly sessionId: string };
        }[];
      };
    }[];
  };
}

let server: TestRedis;
let redis: Redis;
let at: TestGateway;
const as = async (subject: string, options: TokenOptions = {}): Promise<Caller> =>
  callerOf(at.url, await tokenFor(subject, options));

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  at = await startGateway({ redis: server.url, auth: jwt, historyKeyPrefix: prefix });
});
afterAll(async () => {
  await at.close();
  redis.disconnect();
  await server.stop();
});

/** Everything that lies in Redis, but what lives by itself (deadlines). */
async function everything(): Promise<Readonly<Record<string, string>>> {
  const keys = (await redis.keys("*")).filter((key) => !/^parley:(due|expiries)(@|$)/.test(key)).sort();
  const dumps = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  return Object.fromEntries(keys.map((key, i) => [key, dumps[i]?.toString("base64") ?? ""]));
}

async function talk(sessionId: string, subject: string): Promise<Known> {
  const { sendMessage } = await (
    await as(subject)
  ).execute<Sent>(send, {
    sessionId,
    text: "a secret",
    messageId: "known",
  });
  return {
    sessionId,
    id: sendMessage.session.id,
    messageIds: [sendMessage.userMessage.id, sendMessage.reply.id],
    runId: sendMessage.run.id,
    cursor: sendMessage.userMessage.cursor,
    messageId: "known",
    idempotencyKey: "key",
  };
}

/** What there would be to know of a session that there is not. */
function imagined(known: Known, sessionId: string): Known {
  const cursor = parseCursor(prefix + known.sessionId, known.cursor);
  if (!cursor) throw new Error("The gateway gave out no cursor");
  return elsewhere(known, sessionId, encodeCursor(prefix + sessionId, cursor));
}

describe("which sessions there are for somebody", () => {
  test("those whose ids begin with the subject; the gateway makes such ids", async () => {
    const jim = await as("jim");
    const { sendMessage } = await jim.execute<Sent>(send, { sessionId: "jim:1", text: "Hi" });
    expect(sendMessage.session).toMatchObject({ sessionId: "jim:1", messageCount: 2 });
    const made = await jim.execute(create);
    expect(made).toEqual({
      createSession: { session: { sessionId: expect.stringMatching(/^jim:[0-9a-f-]{36}$/) as string } },
    });
    const [first, again] = [await jim.execute(create, { key: "k" }), await jim.execute(create, { key: "k" })];
    expect(again).toEqual(first);
    expect(await (await as("ann")).execute(create, { key: "k" })).not.toEqual(first);
  });

  test("sent without an id, a message starts one of these: the same for the same messageId, of each subject its own", async () => {
    const begin = `mutation Begin($messageId: String) { sendMessage(input: { text: "Hi", messageId: $messageId }) {
      run { id } reply { id } session { sessionId messageCount } } }`;
    const [jim, ann] = [await as("jim"), await as("ann")];
    const sent = await jim.execute<Sent>(begin, { messageId: "first" });
    expect(sent.sendMessage.session).toEqual({
      sessionId: expect.stringMatching(/^jim:[0-9a-f-]{36}$/) as string,
      messageCount: 2,
    });
    expect(await jim.execute<Sent>(begin, { messageId: "first" })).toEqual(sent);
    const other = await ann.execute<Sent>(begin, { messageId: "first" });
    expect(other.sendMessage.session.sessionId).toMatch(/^ann:/);
    expect(other.sendMessage.run.id).not.toBe(sent.sendMessage.run.id);
    const named = await as("jim", { sessions: ["jim:work-1"] });
    expect(await named.refusal(begin)).toMatch(/BAD_USER_INPUT.*give one of these ids/);
  });

  test("another id is NOT_FOUND and never started", async () => {
    const jim = await as("jim");
    const before = await everything();
    for (const sessionId of ["jim", "ann:1", "x", "*", "jimmy:1"]) {
      expect(await jim.refusal(send, { sessionId, text: "Hi" })).toBe(notFound);
      expect(await jim.refusal(create, { sessionId })).toBe(notFound);
      expect(await jim.refusal(count, { sessionId })).toBe("null");
    }
    expect(await everything()).toEqual(before);
  });

  test("patterns of the token bound what is reached and listed, also of one's own", async () => {
    const jim = await as("joe");
    for (const sessionId of ["joe:work-1", "joe:home-1"]) await jim.execute(create, { sessionId });
    const work = await as("joe", { sessions: ["joe:work-*"] });
    const { sessions } = await work.execute<Listed>(list);
    expect(sessions.nodes.map((node) => node.sessionId)).toEqual(["joe:work-1"]);
    expect(await work.refusal(count, { sessionId: "joe:home-1" })).toBe("null");
    expect(await work.refusal(send, { sessionId: "joe:home-1", text: "Hi" })).toBe(notFound);
    const made = await work.execute(create);
    expect(JSON.stringify(made)).toMatch(/"joe:work-[0-9a-f-]{36}"/);
    const named = await as("joe", { sessions: ["joe:work-1"] });
    expect(await named.refusal(create)).toMatch(/BAD_USER_INPUT.*give one of these ids/);
  });
});

describe("another's session", () => {
  test("answers in the very words of one that does not exist, whatever is known of it, and stays as it is", async () => {
    const known = await talk("ann:private", "ann");
    const missing = imagined(known, "ann:missing");
    const eve = await as("eve");
    const before = await everything();
    for (const { name, query, variables } of probes) {
      const [theirs, nobodys] = [
        await eve.refusal(query, variables(known)),
        await eve.refusal(query, variables(missing)),
      ];
      expect(theirs, name).toBe(nobodys);
      expect(theirs, name).toMatch(/^null$|NOT_FOUND/);
    }
    for (const { name, query, variables } of subscriptions) {
      const words = async (of: Known) => {
        const response = await fetch(at.url, {
          method: "POST",
          headers: {
            "content-type": "application/json",
            accept: "text/event-stream",
            authorization: `Bearer ${await tokenFor("eve")}`,
          },
          body: JSON.stringify({ query, variables: variables(of) }),
        });
        return `${response.status} ${await response.text()}`;
      };
      expect(await words(known), name).toBe(await words(missing));
      expect(await words(known), name).toContain("NOT_FOUND");
    }
    expect(await everything()).toEqual(before);
    expect(await (await as("ann")).execute(count, { sessionId: "ann:private" })).toEqual({
      session: { messageCount: 2 },
    });
  });

  test("shows nothing where patterns overlap, either; the record says whose it is", async () => {
    const known = await talk("bob:1", "bob");
    const missing = imagined(known, "bob:2");
    const eve = await as("eve", { sessions: ["bob:*"] });
    const makesOne = new Set(["sendMessage", "addMessages", "createSession"]);
    for (const { name, query, variables } of probes) {
      if (makesOne.has(name)) continue;
      expect(await eve.refusal(query, variables(known)), name).toBe(await eve.refusal(query, variables(missing)));
    }
    expect(await eve.refusal(send, { sessionId: "bob:1", text: "x", messageId: "known" })).toBe(notFound);
    expect((await eve.execute<Listed>(list)).sessions.nodes).toEqual([]);
  });

  test("leaves nothing behind for the next owner of its id: not even operations that were sent before", async () => {
    const shared = { sessions: ["room-*"] };
    const [ann, bob] = [await as("ann", shared), await as("bob", shared)];
    const { sendMessage } = await ann.execute<Sent>(send, { sessionId: "room-1", text: "a secret", messageId: "m" });
    await ann.execute(`mutation { deleteSession(input: { sessionId: "room-1" }) { deletedId } }`);
    const sent = await bob.execute<Sent>(send, { sessionId: "room-1", text: "mine", messageId: "m" });
    expect(sent.sendMessage.session.messageCount).toBe(2);
    expect(sent.sendMessage.run.id).not.toBe(sendMessage.run.id);
    expect(await bob.execute(`query Run($id: ID!) { node(id: $id) { id } }`, { id: sendMessage.run.id })).toEqual({
      node: null,
    });
    expect(await ann.refusal(count, { sessionId: "room-1" })).toBe("null");
  });
});

describe("a history that nobody has a record of", () => {
  const row = JSON.stringify({ type: "human", data: { content: "written by LangChain" } });

  test("is nobody's, also where its id begins with the subject", async () => {
    await redis.lpush("chat:kim:foreign", row);
    const kim = await as("kim");
    const before = await everything();
    expect(await kim.refusal(count, { sessionId: "kim:foreign" })).toBe("null");
    expect(await kim.refusal(send, { sessionId: "kim:foreign", text: "Hi" })).toBe(notFound);
    expect((await kim.execute<Listed>(list)).sessions.nodes).toEqual([]);
    expect(await everything()).toEqual(before);
  });

  test("belongs to the owner whom an admin gives it to, whatever its id", async () => {
    await redis.lpush("chat:legacy:1", row);
    await redis.lpush("chat:legacy:2", row);
    expect((await at.gateway.adopt({ owner: "lea", match: "chat:legacy:*" })).adopted).toBe(2);
    const lea = await as("lea");
    expect((await lea.execute<Listed>(list)).sessions.nodes.map((node) => node.sessionId).sort()).toEqual([
      "legacy:1",
      "legacy:2",
    ]);
    const { sendMessage } = await lea.execute<Sent>(send, { sessionId: "legacy:1", text: "Hi" });
    expect(sendMessage.session.messageCount).toBe(3);
    for (const other of [await as("eve"), await as("eve", { sessions: ["legacy:*"] })]) {
      expect(await other.refusal(count, { sessionId: "legacy:1" })).toBe("null");
    }
    await expect(at.gateway.adopt()).rejects.toThrow(/owner/);
  });

  test("belongs to the first subject whose token names it, whichever operation comes first", async () => {
    const firsts = [
      [count, {}],
      [send, { text: "Hi" }],
      [`mutation Do($sessionId: String!) { markRead(input: { sessionId: $sessionId }) { session { id } } }`, {}],
      [
        `mutation Do($sessionId: String!) { addMessages(input: { sessionId: $sessionId, messages: [{ role: USER, text: "x" }] }) { session { id } } }`,
        {},
      ],
      [`mutation Do($sessionId: String!) { forkSession(input: { sessionId: $sessionId }) { session { id } } }`, {}],
    ] as const;
    const mia = await as("mia", { sessions: ["old-*", "mia:*"] });
    for (const [i, [query, variables]] of firsts.entries()) {
      await redis.lpush(`chat:old-${i}`, row);
      await mia.execute(query, { sessionId: `old-${i}`, ...variables });
      expect(await redis.hget(`parley:{chat:old-${i}}:session:chat:old-${i}`, "owner")).toBe("mia");
      expect(await (await as("eve", { sessions: ["old-*"] })).refusal(count, { sessionId: `old-${i}` })).toBe("null");
    }
    await redis.lpush("chat:old-jobs", "{}");
    await redis.set("chat:old-text", "x");
    for (const sessionId of ["old-jobs", "old-text"]) expect(await mia.refusal(count, { sessionId })).toBe("null");
  });
});

describe("an admin", () => {
  test("lists by owner, and sees what hangs on these sessions", async () => {
    await talk("nat:1", "nat");
    const admin = await as("root", { scope: "admin" });
    const { sessions } = await admin.execute<Listed>(list, { owner: "nat" });
    expect(sessions.nodes.map((node) => node.sessionId)).toEqual(["nat:1"]);
    const [user, reply] = sessions.nodes[0]?.messages.nodes ?? [];
    expect(user).toMatchObject({ text: "a secret", session: { sessionId: "nat:1" } });
    expect(reply?.run?.text).toBe(reply?.text);
    expect((await admin.execute<Listed>(list, { owner: "nobody" })).sessions.nodes).toEqual([]);
    expect((await admin.execute<Listed>(list)).sessions.nodes).toEqual([]);
    // To the scripts it is the gateway itself.
    expect(await admin.refusal(list, { owner: "*" })).toMatch(/BAD_USER_INPUT.*filter\.owner/);
  });

  test("needs the scope, else FORBIDDEN, whether there is such an owner or not", async () => {
    const eve = await as("eve");
    const refused = '200 {"code":"FORBIDDEN"} This needs the scope admin, which your credentials do not have.';
    for (const owner of ["nat", "nobody", "eve", ""]) expect(await eve.refusal(list, { owner })).toBe(refused);
  });
});

describe("the models that a token names", () => {
  const names = `{ models { name isDefault } }`;
  const ask = `mutation Ask($sessionId: String!, $model: String, $newSession: NewSessionInput) {
    sendMessage(input: { sessionId: $sessionId, text: "Hi", model: $model, newSession: $newSession }) { run { model status } reply { text } }
  }`;
  const again = `mutation Again($sessionId: String!) { regenerateReply(input: { sessionId: $sessionId }) { run { id } } }`;
  const title = `mutation Title($sessionId: String!) { generateTitle(input: { sessionId: $sessionId }) { session { title } } }`;
  const change = `mutation Change($sessionId: String!, $model: String) {
    updateSession(input: { sessionId: $sessionId, model: $model }) { session { model } }
  }`;
  const refusedFor = (field: string, words: string) => `200 {"code":"BAD_USER_INPUT","field":"${field}"} ${words}`;
  const unnamed = refusedFor(
    "input.model",
    "Your credentials do not allow the model that answers here where none is named. Choose one of: agent:helper.",
  );
  const answered = { sendMessage: { run: { model: "agent:helper", status: "COMPLETED" } } };
  const open = { claims: { models: ["agent:help*"] } };
  let offering: TestGateway;

  beforeAll(async () => {
    const agents = { helper: { model: "offline" }, other: { model: "offline" } };
    offering = await startGateway({ redis: server.url, auth: jwt, historyKeyPrefix: prefix, agents });
  });
  afterAll(() => offering.close());
  const bounded = async (subject: string, options: TokenOptions = open) =>
    callerOf(offering.url, await tokenFor(subject, options));

  test("are listed, and any other is one that there is not", async () => {
    const all = { models: ["offline", "agent:helper", "agent:other"] };
    const listed = async (options: TokenOptions) => {
      const { models } = await (await bounded("mo", options)).execute<{ models: { name: string }[] }>(names);
      return { models: models.map(({ name }) => name) };
    };
    expect(await listed({})).toEqual(all);
    expect(await listed({ claims: { models: "*" } })).toEqual(all);
    expect(await listed(open)).toEqual({ models: ["agent:helper"] });
    const mo = await bounded("mo");
    expect(await mo.execute(names)).toEqual({ models: [{ name: "agent:helper", isDefault: false }] });
    const missing = refusedFor("input.model", "There is no model of this name to choose. Choose one of: agent:helper.");
    for (const model of ["offline", "agent:other", "agent:missing"]) {
      expect(await mo.refusal(ask, { sessionId: "mo:1", model })).toBe(missing);
      expect(await mo.refusal(change, { sessionId: "mo:1", model })).toBe(missing);
      const newSession = { model };
      expect(await mo.refusal(ask, { sessionId: "mo:1", newSession })).toBe(
        missing.replace("input.model", "input.newSession.model"),
      );
    }
    expect(await mo.refusal(count, { sessionId: "mo:1" })).toBe("null");
    expect(await mo.execute(ask, { sessionId: "mo:1", model: "agent:helper" })).toMatchObject(answered);
  });

  test("hold where none is named: for the gateway's default, and for what others have chosen for the session", async () => {
    const [may, pat] = [await bounded("pat", {}), await bounded("pat")];
    expect(await pat.refusal(ask, { sessionId: "pat:1" })).toBe(unnamed);
    expect(await pat.refusal(count, { sessionId: "pat:1" })).toBe("null");
    const newSession = { model: "agent:helper" };
    expect(await pat.execute(ask, { sessionId: "pat:1", newSession })).toMatchObject(answered);
    expect(await pat.execute(ask, { sessionId: "pat:1" })).toMatchObject(answered);
    for (const model of ["agent:other", null]) {
      await may.execute(change, { sessionId: "pat:1", model });
      for (const operation of [ask, again, title]) {
        expect(await pat.refusal(operation, { sessionId: "pat:1" })).toBe(unnamed);
      }
    }
    expect(await may.execute(count, { sessionId: "pat:1" })).toEqual({ session: { messageCount: 4 } });
  });

  test("may be none at all", async () => {
    const nobody = await bounded("una", { claims: { models: [] } });
    expect(await nobody.execute(names)).toEqual({ models: [] });
    expect(await nobody.refusal(ask, { sessionId: "una:1", model: "offline" })).toBe(
      refusedFor("input.model", "There is no model of this name to choose. Your credentials allow none."),
    );
  });

  test("come of a program's own authenticate, too", async () => {
    const own = await startGateway({
      ...{ redis: server.url, historyKeyPrefix: prefix, agents: { helper: { model: "offline" } } },
      authenticate: () => ({ subject: "olga", models: ["agent:*"] }),
    });
    const olga = callerOf(own.url, null);
    expect(await olga.execute(names)).toEqual({ models: [{ name: "agent:helper", isDefault: false }] });
    expect(await olga.refusal(ask, { sessionId: "olga:1" })).toBe(unnamed);
    await own.close();
  });
});
