import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { RedisChatMessageHistory } from "@langchain/redis";
import { afterAll, beforeAll, expect, test } from "vitest";

import { readAgentsFile } from "../../src/cli/agents-file.ts";
import { ask } from "../support/gateway/conversation.ts";
import { spawnGateway, type GatewayProcess } from "../support/gateway/gateway.ts";
import { execute, subscribe } from "../support/gateway/graphql-client.ts";
import { runParley } from "../support/gateway/parley-command.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

// An agent of AGENTS_FILE, from outside: `parley` alone, with real MCP servers.

const root = fileURLToPath(new URL("../../", import.meta.url));
const server = { command: process.execPath, args: ["--no-warnings", join(root, "test/support/mcp/mcp-process.ts")] };
const example = { command: process.execPath, args: [join(root, "examples/agents/tools.mjs")] };

let redis: TestRedis;
let openai: OpenAIServer;
let gateway: GatewayProcess;
let folder: string;

async function fileOf(agents: object, name = "agents.json"): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, JSON.stringify({ agents }));
  return path;
}

beforeAll(async () => {
  folder = await temporaryDirectory();
  [redis, openai] = await Promise.all([startRedis({ appendonly: false }), startOpenAI()]);
  const path = await fileOf({
    helper: { model: "openai:small", mcpServers: { own: server }, tools: ["own__echo", "own__pid"] },
    trial: { model: "offline", description: "For trying out.", mcpServers: { own: example } },
    broken: { model: "offline", mcpServers: { own: server }, tools: ["own__mail"] },
    careful: { model: "offline", mcpServers: { own: server }, approvals: ["own__echo"] },
    filler: {
      model: "openai:small",
      responseFormat: { type: "object", properties: { name: { type: "string" } }, required: ["name"] },
    },
  });
  gateway = await spawnGateway({
    REDIS_URL: redis.url,
    AGENTS_FILE: path,
    OPENAI_API_KEY: "key",
    OPENAI_BASE_URL: openai.baseUrl,
    MODEL: "agent:trial",
    MODELS: "offline",
    // So that a slow machine has its time.
    MCP_CONNECT_TIMEOUT_MS: "120000",
  });
});

afterAll(async () => {
  await gateway.stop();
  await Promise.all([redis.stop(), openai.close()]);
});

async function typesOf(sessionId: string): Promise<readonly string[]> {
  const history = new RedisChatMessageHistory({ sessionId, config: { url: redis.url } });
  const messages = await history.getMessages();
  await history.client.disconnect();
  return messages.map(({ type }) => type);
}

test("an agent with an MCP tool answers over an OpenAI-compatible server, and ConversationChain goes on with its history", async () => {
  const toolCalls = [{ id: "c1", name: "own__echo", arguments: '{"text":"hi"}' }];
  openai.next(
    { kind: "reply", text: "", finishReason: "tool_calls", toolCalls },
    { kind: "reply", text: "It said hi." },
  );
  const { run, reply } = await ask(gateway.url, "mcp", "Say hi.", { model: "agent:helper" });
  expect([run.status, reply?.text]).toEqual(["COMPLETED", "It said hi."]);
  expect(await typesOf("mcp")).toEqual(["human", "ai", "tool", "ai"]);
  const [, second] = openai.requests.slice(-2);
  expect(second?.messages.at(-1)).toMatchObject({ role: "tool", tool_call_id: "c1", content: "You said hi." });
  const later = await ask(gateway.url, "mcp", "My name is Jim.", { model: "offline" });
  expect(later.reply?.text).toContain("Jim");
});

test("the offline model calls tools when it is asked to: what time it is, what to remember, a tool by its name", async () => {
  const said = async (text: string) => (await ask(gateway.url, "trial", text)).reply?.text;
  expect(await said("What time is it?")).toMatch(/^The tool own__time answers: \d{4}-\d\d-\d\dT/);
  expect(await said("Please remember the milk.")).toBe("The tool own__remember answers: the milk.");
  expect(await said('Use remember with {"what":"bread"}')).toBe("The tool own__remember answers: the milk.\nbread");
  expect(await said("My name is Jim.")).toContain("Hello Jim!");
  expect(await typesOf("trial")).toEqual([
    ...["human", "ai", "tool", "ai", "human", "ai", "tool", "ai", "human", "ai", "tool", "ai"],
    ...["human", "ai"],
  ]);
});

test("`models` has the agents of the file with their servers' tools", async () => {
  const { models } = await execute<{ models: readonly { name: string; kind: string; tools: { name: string }[] }[] }>(
    gateway.url,
    "{ models { name kind description isDefault tools { name parameters needsApproval } } }",
  );
  expect(models.find(({ name }) => name === "agent:trial")).toMatchObject({
    kind: "AGENT",
    isDefault: true,
    description: "For trying out.",
    tools: [
      { name: "own__time", needsApproval: false },
      { name: "own__remember", parameters: { properties: { what: { type: "string" } } } },
    ],
  });
});

test("a tool of a server waits for its approval, which `approvals` asks for", async () => {
  const { run } = await ask(gateway.url, "careful", 'Use own__echo with {"text":"hi"}', { model: "agent:careful" });
  expect(run.status).toBe("WAITING");
  expect(await typesOf("careful")).toEqual(["human"]);
  const waiting = await execute<{
    session: { activeRun: { approvals: readonly { callId: string; args: unknown }[] } };
  }>(gateway.url, `{ session(sessionId: "careful") { activeRun { approvals { callId args } } } }`);
  const [call] = waiting.session.activeRun.approvals;
  expect(call?.args).toEqual({ text: "hi" });
  const decide = `mutation ($input: RespondToRunInput!) { respondToRun(input: $input) { run { id } } }`;
  await execute(gateway.url, decide, { input: { runId: run.id, decisions: [{ approve: { callId: call?.callId } }] } });
  await expect.poll(() => typesOf("careful"), { timeout: 30_000 }).toEqual(["human", "ai", "tool", "ai"]);
});

test("an agent with a responseFormat: Run.structured is its reply as an object, delivered at the end of the run and kept", async () => {
  openai.next({ kind: "reply", text: '{"name":"Jim"}' }, { kind: "reply", text: "No JSON." });
  const live = subscribe<{ __typename: string; run?: { status: string; structured: unknown } }>(
    gateway.url,
    `subscription { sessionEvents(sessionId: "filled") { __typename ... on RunChanged { run { status structured } } } }`,
  );
  await live.waitFor((event) => event.__typename === "StreamWaiting");
  const { run, reply } = await ask(gateway.url, "filled", "I am Jim.", { model: "agent:filler" });
  expect([run.status, reply?.text]).toEqual(["COMPLETED", '{"name":"Jim"}']);
  await live.waitFor((event) => event.run?.status === "COMPLETED");
  expect(live.events.flatMap((event) => event.run ?? [])).toEqual([
    { status: "RUNNING", structured: null },
    { status: "COMPLETED", structured: { name: "Jim" } },
  ]);
  const last = `{ session(sessionId: "filled") { lastRun { status text structured } } }`;
  expect(await execute(gateway.url, last)).toEqual({
    session: { lastRun: { status: "COMPLETED", text: '{"name":"Jim"}', structured: { name: "Jim" } } },
  });
  const failed = await ask(gateway.url, "filled", "Who am I?", { model: "agent:filler" });
  expect(failed.run.error?.message).toBe("The reply does not have the form that the agent was to give.");
  expect(await execute(gateway.url, last)).toEqual({
    session: { lastRun: { status: "FAILED", text: "No JSON.", structured: null } },
  });
  // The next model sees the reply as LangChain stored it.
  expect(await typesOf("filled")).toEqual(["human", "ai", "human"]);
  live.close();
});

test("a name in `tools` that means nothing stops the agent: no tool runs", async () => {
  const { run } = await ask(gateway.url, "broken", 'Use echo with {"text":"hi"}', { model: "agent:broken" });
  expect(run).toMatchObject({ status: "FAILED", error: { code: "MODEL_UNAVAILABLE", retryable: false } });
  expect(run.error?.message).toBe(
    "The agent is configured with a tool that there is not. The gateway's log says which.",
  );
  expect(await typesOf("broken")).toEqual(["human"]);
  const ready = await fetch(gateway.url.replace("/graphql", "/readyz"));
  expect(JSON.stringify(await ready.json())).toContain(
    'The agent broken: tools: \\"own__mail\\" means no tool that there is. There are own__echo',
  );
});

test("the servers' processes end with the gateway", async () => {
  const path = await fileOf({ one: { model: "offline", mcpServers: { own: server } } }, "one.json");
  const short = await spawnGateway({ REDIS_URL: redis.url, AGENTS_FILE: path, MCP_CONNECT_TIMEOUT_MS: "120000" });
  const { reply } = await ask(short.url, "pid", "Use own__pid", { model: "agent:one" });
  const pid = Number(/\d+$/.exec(reply?.text ?? "")?.[0]);
  expect(pid).toBeGreaterThan(0);
  expect(await short.stop()).toBe(0);
  await expect.poll(() => isAlive(pid)).toBe(false);
});

test("an ES module gives LangChain's own models and tools", async () => {
  const path = join(folder, "agents.mjs");
  const core = (name: string) => import.meta.resolve(`@langchain/core/${name}`);
  await writeFile(
    path,
    `import { tool } from ${JSON.stringify(core("tools"))};
export default { own: { model: "offline", tools: [tool(() => "Noon.", { name: "clock", description: "The time.", schema: { type: "object", properties: {} } })] } };`,
  );
  const own = await spawnGateway({ REDIS_URL: redis.url, AGENTS_FILE: path, MODEL: "agent:own" });
  expect((await ask(own.url, "module", "What time is it?")).reply?.text).toBe("The tool clock answers: Noon.");
  await own.stop();
});

test("every mistake in the file is named at the start, with exit code 2", async () => {
  const path = await fileOf(
    {
      a: { model: "offline", tols: [], mcpServers: { own: { command: "x", url: "https://x.test" }, a__b: {} } },
      b: {
        model: "offline",
        mcpServers: { web: { url: "https://x.test/mcp", headers: { authorization: "Bearer ${NO_SUCH_TOKEN}" } } },
        limits: { toolCalls: 0 },
        pins: { web__x: "1" },
      },
      d: { model: "gpt-4o" },
      e: { model: "opnai:gpt-4o" },
      f: { model: "offline", responseFormat: { type: "string" } },
    },
    "wrong.json",
  );
  const { code, stderr } = await runParley(folder, [], { REDIS_URL: redis.url, AGENTS_FILE: path, MODEL: "agent:c" });
  expect(code).toBe(2);
  for (const mistake of [
    "AGENTS_FILE: agents.a.tols is not known",
    "AGENTS_FILE: agents.a.mcpServers.own needs either command or url",
    "AGENTS_FILE: agents.a.mcpServers.a__b: a server's name has letters",
    "AGENTS_FILE: agents.b.mcpServers.web needs NO_SUCH_TOKEN, which is not set in the environment",
    "AGENTS_FILE: agents.b.limits.toolCalls must be a whole number",
    "AGENTS_FILE: agents.b.pins must be pins",
    'AGENTS_FILE: agents.d.model must be "provider:name"',
    'AGENTS_FILE: agents.e.model must be "provider:name"',
    "AGENTS_FILE: agents.f.responseFormat must be a zod object, or a JSON Schema",
  ]) {
    expect(stderr).toContain(mistake);
  }
});

test("an agent whose model needs a key that is not set is refused at the start", async () => {
  const path = await fileOf({ a: { model: "openai:gpt-4o-mini" }, b: { model: "offline" } }, "keyless.json");
  const { code, stderr } = await runParley(folder, [], { REDIS_URL: redis.url, AGENTS_FILE: path });
  expect(code).toBe(2);
  expect(stderr).toContain("OPENAI_API_KEY: is needed by agents.a (or OPENAI_BASE_URL");
  expect(stderr).not.toContain("agents.b");
});

test.each([
  ["MODEL", "agent:helper", {}, 'names the agent "helper", and AGENTS_FILE, the file of the agents, is not set'],
  [
    "MODELS",
    "offline,agent:helper",
    {},
    'names the agent "helper", and AGENTS_FILE, the file of the agents, is not set',
  ],
  [
    "MODELS",
    "agent:helper",
    { other: { model: "offline" } },
    'names the agent "helper", which AGENTS_FILE does not have',
  ],
])("%s=%s names an agent that does not exist", async (variable, value, agents, problem) => {
  const file: Record<string, string> =
    Object.keys(agents).length === 0 ? {} : { AGENTS_FILE: await fileOf(agents, "other.json") };
  const { code, stderr } = await runParley(folder, [], { REDIS_URL: redis.url, [variable]: value, ...file });
  expect([code, stderr]).toEqual([2, expect.stringContaining(`${variable}: ${problem}\n`)]);
});

test("parley agents pin prints what the servers' tools are; with these pins the agent has its tools", async () => {
  const given = { model: "offline", mcpServers: { own: example } };
  const env = { REDIS_URL: redis.url, MCP_CONNECT_TIMEOUT_MS: "120000" };
  const pinned = await runParley(folder, ["agents", "pin"], {
    ...env,
    AGENTS_FILE: await fileOf({ one: given }, "pin.json"),
  });
  expect(pinned.code).toBe(0);
  const { one: pins } = JSON.parse(pinned.stdout) as { one: Record<string, string> }; // as the command prints them
  expect(Object.keys(pins)).toEqual(["own__time", "own__remember"]);
  const changed = { ...pins, own__time: pins["own__remember"] };
  const path = await fileOf({ same: { ...given, pins }, other: { ...given, pins: changed } }, "pinned.json");
  const own = await spawnGateway({ ...env, AGENTS_FILE: path });
  const { models } = await execute<{ models: readonly { name: string; tools: readonly { name: string }[] }[] }>(
    own.url,
    "{ models { name tools { name } } }",
  );
  const toolsOf = (name: string) => models.find((one) => one.name === name)?.tools.map((one) => one.name);
  expect(toolsOf("agent:same")).toEqual(["own__time", "own__remember"]);
  expect(toolsOf("agent:other")).toEqual(["own__remember"]);
  await own.stop();
});

test.each([
  ["{", "is no valid JSON: "],
  ["[]", 'must be an object with "agents"'],
  ['{"agents":{},"other":1}', "other is not known"],
  ['{"agents":{}}', "holds no agents"],
])("a file of %s is refused", async (text, problem) => {
  const path = join(folder, "form.json");
  await writeFile(path, text);
  const { agents, problems } = await readAgentsFile(path, {});
  expect(agents).toEqual({});
  expect(problems.join()).toContain(problem);
});

test("a missing file is reported as missing; what a module throws, as the module's error's own error", async () => {
  const problemsOf = async (path: string) => (await readAgentsFile(path, {})).problems;
  for (const name of ["missing.json", "missing.mjs"]) {
    expect(await problemsOf(join(folder, name))).toEqual(["cannot be read (ENOENT)"]);
  }
  const path = join(folder, "throws.mjs");
  await writeFile(
    path,
    `import { readFileSync } from "node:fs";\nreadFileSync("/no/such/prompt.txt");\nexport default {};`,
  );
  expect(await problemsOf(path)).toEqual([
    "cannot be loaded: ENOENT: no such file or directory, open '/no/such/prompt.txt'",
  ]);
});

test("secrets come from the environment, in any option of a server", async () => {
  const web = { url: "https://${HOST_NAME}/mcp", headers: { authorization: "Bearer ${TOKEN}" } };
  const path = await fileOf({ one: { model: "offline", mcpServers: { web } } }, "secrets.json");
  const { agents, problems } = await readAgentsFile(path, { TOKEN: "secret", HOST_NAME: "x.test" });
  expect(problems).toEqual([]);
  expect(agents["one"]).toMatchObject({
    mcpServers: { web: { url: "https://x.test/mcp", headers: { authorization: "Bearer secret" } } },
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
