import { expect, test } from "vitest";
import { z } from "zod";
import { createGateway, GatewayOptionsError, type GatewayOptions } from "../../src/gateway.ts";

const redis = "redis://127.0.0.1:1";
const counts = "must be a number, 0 or more";

// As someone who writes JavaScript calls it: the types would not let these pass.
test.each<readonly [unknown, readonly string[]]>([
  [undefined, ["the options must be an object; redis is the one option that is needed"]],
  [{}, ["redis must be a redis:// or rediss:// URL"]],
  [{ redis: undefined }, ["redis must be a redis:// or rediss:// URL"]],
  [{ redis: "http://127.0.0.1" }, ["redis must be a redis:// or rediss:// URL"]],
  [
    { redis, sytemPrompt: "x", maxQueuedRuns: "20", keepAliveMs: Number.NaN },
    [`maxQueuedRuns ${counts}`, `keepAliveMs ${counts}`, "sytemPrompt is no option"],
  ],
  [{ redis, host: "0.0.0.0", port: 4000 }, ["host is no option", "port is no option"]],
  [{ redis, model: "gpt-4o" }, ['model must be "provider:name"']],
  [
    { redis, memory: { strategy: "buffer", turns: 3 } },
    ["memory.strategy must be one of BUFFER", "memory.turns is no option"],
  ],
  [{ redis, historyKeyPrefix: "parley:x" }, ["historyKeyPrefix must be a text that does not"]],
  [
    { redis, authenticate: true, auth: { kind: "oauth" } },
    ["authenticate must be a function", "auth must be an object whose kind"],
  ],
  [{ redis, allowedOrigins: "https://a" }, ["allowedOrigins must be a list of texts, or null"]],
  [{ redis, queryLimits: { maxCots: 1 } }, ["queryLimits.maxCots is no option"]],
  [{ redis, agents: [] }, ["agents must be an object of agents by name"]],
  [{ redis, model: "agent:nobody" }, ["model names an agent that is not among agents: agent:nobody"]],
  [
    {
      redis,
      agents: {
        "a b": {},
        bare: { model: 1, approves: [] },
        twice: {
          model: "offline",
          instructions: 1,
          tools: [
            { name: "t", invoke: () => null },
            { name: "t", invoke: () => null, returnDirect: true },
            { name: "o.k" },
          ],
          limits: { toolCalls: 0, runTimeoutMs: null, calls: 1 },
        },
        bad: { model: "agent:twice", tools: [{ name: "o.k", invoke: () => null }], clientTools: "on" },
        user: {
          model: "offline",
          mcpServers: { own: { command: "x", passUserToken: true }, web: { url: "https://x.test/", passUserToken: 1 } },
        },
      },
    },
    [
      "agents.a b: a name has letters",
      "agents.bare.approves is not known",
      "agents.bare.model must be the name of a model",
      "agents.twice.instructions must be a text",
      'agents.twice.tools[1]: there is another tool of the name "t"',
      'agents.twice.tools[1] ("t") must not have returnDirect',
      "agents.twice.tools[2] must be a LangChain tool",
      "agents.twice.limits.toolCalls must be a whole number",
      "agents.twice.limits.calls is not known",
      "agents.bad.model must be the name of a model",
      "agents.bad.tools[0].name must have letters",
      "agents.bad.clientTools must be true or false",
      "agents.user.mcpServers.own.passUserToken does not belong to a server with command",
      "agents.user.mcpServers.web.passUserToken must be true or false",
    ],
  ],
  [
    { redis, customModels: { mine: {} }, agents: { own: { model: "mine" }, odd: { model: "yours" } } },
    ['agents.odd.model must be "provider:name"'],
  ],
  [{ redis, models: ["offline", "agent:nobody"] }, ["models names an agent that is not among agents: agent:nobody"]],
  [
    {
      ...{ redis, model: "openai:a", models: ["offline", "openai:b"], openai: { timeoutMs: 1 } },
      ...{
        customModels: { "openai:own": () => null },
        agents: { it: { model: "openai:c" }, own: { model: "openai:own" } },
      },
    },
    [
      "openai.timeoutMs is no option",
      "model needs openai.apiKey (or openai.baseUrl, for a server without keys)",
      "models.1 needs openai.apiKey",
      "agents.it.model needs openai.apiKey",
    ],
  ],
  [
    {
      redis,
      agents: {
        a: { model: "offline", responseFormat: "json" },
        b: { model: "offline", responseFormat: { type: "array" } },
        c: {
          model: "offline",
          responseFormat: { type: "object", properties: { x: { type: "text" } }, required: ["y"] },
        },
        d: { model: "offline", responseFormat: z.string() },
        good: { model: "offline", responseFormat: z.object({ x: z.string() }) },
        fine: { model: "offline", responseFormat: { type: "object", properties: { x: { type: ["string", "null"] } } } },
        flow: { graph: {}, responseFormat: {} },
      },
    },
    [
      "agents.a.responseFormat must be a zod object, or a JSON Schema",
      "agents.b.responseFormat must be a zod object, or a JSON Schema",
      'agents.c.responseFormat.required names "y", which is none of its properties',
      'agents.c.responseFormat.properties.x is no JSON Schema: "text" is no type',
      "agents.d.responseFormat must be a zod object",
      "agents.flow.responseFormat has no place beside graph",
      "agents.flow.graph must be a compiled LangGraph graph",
    ],
  ],
  [{ redis, logger: console.log }, ["logger must have the methods debug, info, warn and error"]],
])("createGateway(%j) names what is wrong", async (options, problems) => {
  const failed = createGateway(options as GatewayOptions); // what the types refuse
  await expect(failed).rejects.toBeInstanceOf(GatewayOptionsError);
  const { message } = await failed.then(
    () => new Error("It started"),
    (error: unknown) => error as Error, // as just checked
  );
  const [first, ...lines] = message.split("\n");
  expect(first).toBe("createGateway's options have mistakes:");
  expect(lines.map((line, i) => line.slice(2, 2 + (problems[i]?.length ?? 0)))).toEqual(problems);
});

test("options that are left out or undefined are no mistake", async () => {
  const options = { redis, model: undefined, maxSendsPerMinute: null, idle: true, customModels: undefined };
  const gateway = await createGateway(options as unknown as GatewayOptions); // exactOptionalPropertyTypes would refuse it
  await gateway.close({ graceMs: 0 });
});
