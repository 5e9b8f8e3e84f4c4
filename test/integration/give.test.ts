import { afterAll, beforeAll, expect, test } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { follow, send, ask } from "../support/gateway/conversation.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { command } from "../support/redis/redis-command.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";

const listed = `{ sessions { nodes { sessionId } } }`;
const shown = `query ($id: String!) { session(sessionId: $id) { title messages { nodes { id text cursor } } activeRun { id } } }`;

let server: TestRedis;
let openai: OpenAIServer;
let open: TestGateway;
let closed: TestGateway;

beforeAll(async () => {
  [server, openai] = await Promise.all([startRedis(), startOpenAI()]);
  const common = {
    redis: server.url,
    historyKeyPrefix: "chat:",
    model: "openai:small",
    openai: { apiKey: "key", baseUrl: openai.baseUrl },
  };
  const auth = {
    kind: "jwt",
    key: { secret },
    issuer: null,
    audience: null,
    clockSkewSeconds: 0,
    cookie: null,
  } as const;
  [open, closed] = await Promise.all([startGateway(common), startGateway({ ...common, auth })]);
});

afterAll(async () => {
  await Promise.all([open.close(), closed.close()]);
  await Promise.all([server.stop(), openai.close()]);
});

test("sessions of anonymous become another owner's unchanged; clients that followed them get SessionRemoved", async () => {
  await ask(open.url, "jim-1", "Hi! I'm Jim.");
  await execute(open.url, `mutation { updateSession(input: { sessionId: "jim-1", title: "T" }) { session { id } } }`);
  await ask(open.url, "other", "Not his.");
  openai.behave({ kind: "gated", tokens: ["a"] });
  await send(open.url, "jim-2", "Wait.");
  const before = await execute<{ session: { activeRun: null; title: string } }>(open.url, shown, { id: "jim-1" });
  const stream = await follow(open.url, "jim-1");
  const jim = callerOf(closed.url, await tokenFor("jim"));
  expect(await jim.execute(shown, { id: "jim-1" })).toEqual({ session: null });

  const told: number[] = [];
  const onProgress = (given: number) => void told.push(given);
  const given = { from: "anonymous", to: "jim", match: "jim-*", onProgress };
  expect(await closed.gateway.give(given)).toBe(2);
  expect(told).toEqual([1, 2]);
  expect(await closed.gateway.give(given)).toBe(0);

  expect(await jim.execute(shown, { id: "jim-1" })).toEqual(before);
  const { sessions } = await jim.execute<{ sessions: { nodes: { sessionId: string }[] } }>(listed);
  expect(sessions.nodes.map(({ sessionId }) => sessionId).sort()).toEqual(["jim-1", "jim-2"]);
  expect(await execute(open.url, listed)).toEqual({ sessions: { nodes: [{ sessionId: "other" }] } });
  expect(await execute(open.url, shown, { id: "jim-1" })).toEqual({ session: null });
  await stream.waitForEnd();
  expect(stream.events.at(-1)?.__typename).toBe("SessionRemoved");
  expect(await command(server, "HGET", "parley:{chat:other}:session:chat:other", "owner")).toBe("anonymous");

  // A run that was going goes on, for its new owner.
  openai.releaseAll();
  const again = `mutation { sendMessage(input: { sessionId: "jim-2", text: "And?" }) { reply { text } session { messageCount } } }`;
  expect(await jim.execute(again)).toEqual({ sendMessage: { reply: { text: "a" }, session: { messageCount: 4 } } });
});

test.each(["*", "", "anonymous"])(
  "with authentication no token can have the subject %j, and no session can be given to it",
  async (to) => {
    const { gateway } = closed;
    const nothing = (async function* () {})();
    await expect(gateway.give({ from: "jim", to })).rejects.toThrow(TypeError);
    await expect(gateway.adopt({ owner: to })).rejects.toThrow(TypeError);
    await expect(gateway.importSessions(nothing, { owner: to, replace: true })).rejects.toThrow(TypeError);
  },
);

test("without authentication sessions can be given to anonymous, but not to the gateway itself", async () => {
  await ask(open.url, "back", "Anybody's.");
  expect(await open.gateway.give({ from: "anonymous", to: "ann", match: "back" })).toBe(1);
  expect(await open.gateway.give({ from: "ann", to: "anonymous" })).toBe(1);
  await expect(open.gateway.give({ from: "anonymous", to: "*", match: "back" })).rejects.toThrow(TypeError);
  await expect(open.gateway.adopt({ owner: "*" })).rejects.toThrow(TypeError);
  expect(await command(server, "HGET", "parley:{chat:back}:session:chat:back", "owner")).toBe("anonymous");
});

test("a token with the subject anonymous does not get the sessions of anonymous", async () => {
  await ask(open.url, "secret", "Anybody's.");
  const posing = callerOf(closed.url, await tokenFor("anonymous"));
  expect(await posing.refusal(shown, { id: "secret" })).toMatch(/^401 /);
});
