import { resolve } from "node:path";

import { describe, expect, test } from "vitest";

import { ConfigError, loadConfig, variables } from "../../src/config/load.ts";

function problemsOf(env: Record<string, string>): Record<string, string> {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) {
      return Object.fromEntries(error.problems.map(({ variable, message }) => [variable, message]));
    }
    throw error;
  }
  return {};
}

/** Limits that neither test sets. */
const limitsByDefault = {
  maxSendsPerMinute: null,
  maxRunsPerSubject: null,
  maxTokensPerDay: null,
  maxSessionsPerOwner: null,
  maxTitleChars: 500,
  maxMetadataBytes: 16_384,
  maxMessagesPerAdd: 1000,
  approvalTimeoutSeconds: 86_400,
  runPartsBytes: 262_144,
  maxSubscriptionsPerSocket: 500,
  maxSocketsPerSubject: 1000,
  maxSocketsPerAddress: 2000,
  maxMessagesPerSecond: 1000,
  maxRequestsPerMinute: null,
  maxConnections: 50_000,
  maxConcurrentOperations: 2000,
  maxAnswerBytes: 16_777_216,
  maxPendingAnswerBytes: 268_435_456,
  maxEventLoopLagMs: 2000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  maxHeaderBytes: 16_384,
  keepAliveTimeoutMs: 65_000,
  initTimeoutMs: 3000,
  keepAliveMs: 25_000,
  slowReaderMs: 30_000,
  trustProxy: null,
};

test("nothing set: everything has its default", () => {
  expect(loadConfig({})).toEqual({
    host: "127.0.0.1",
    port: 4000,
    workers: 1,
    auth: { kind: "none", allowAnonymous: false },
    redis: { kind: "embedded", directory: resolve(".parley") },
    redisCommandTimeoutMs: 5000,
    waitReplicas: 0,
    waitTimeoutMs: 1000,
    enableKeyspaceEvents: false,
    listKeyspaceEvents: true,
    feedCheckMs: 5000,
    historyKeyPrefix: "",
    sessionTtlSeconds: null,
    model: "offline",
    models: ["offline"],
    openai: { apiKey: null, baseUrl: null, api: null },
    modelTemperature: null,
    modelMaxRetries: 2,
    modelTimeoutMs: 60_000,
    mcpConnectTimeoutMs: 10_000,
    clientTools: false,
    autoTitle: false,
    offlineWordDelayMs: 15,
    systemPrompt: null,
    memory: { strategy: "BUFFER", maxTurns: 10, maxTokens: 2000, maxMessages: 400 },
    maxMessageChars: 100_000,
    maxMessagesPerSession: null,
    maxQueuedRuns: 20,
    runLeaseMs: 15_000,
    replyWaitMs: 120_000,
    shutdownGraceMs: 10_000,
    maxBodyBytes: 1_048_576,
    ...limitsByDefault,
    queryLimits: {
      maxTokens: 3000,
      maxDepth: 20,
      maxAliases: 30,
      maxDirectives: 50,
      maxRootFields: 20,
      maxDeferred: 10,
      maxCost: 50_000,
    },
    persistedOperations: { mode: "auto", file: null },
    hstsSeconds: null,
    production: false,
    metrics: true,
    metricsToken: null,
    tracing: null,
    graphiql: true,
    console: true,
    agUi: true,
    introspection: true,
    allowedOrigins: null,
    allowedHosts: null,
    logLevel: "info",
    agentsFile: null,
  });
});

const noAccess = { username: null, password: null, db: 0, tls: null };

test("Sentinel, by name, with credentials of both sides and TLS", () => {
  const { redis } = loadConfig({
    REDIS_SENTINELS: "s1:26379, [::1]:26380",
    REDIS_SENTINEL_NAME: "chat",
    REDIS_SENTINEL_USERNAME: "su",
    REDIS_SENTINEL_PASSWORD: "sp",
    REDIS_USERNAME: "u",
    REDIS_PASSWORD: "p",
    REDIS_DB: "2",
    REDIS_TLS_CA_FILE: "/ca.pem",
  });
  expect(redis).toEqual({
    kind: "sentinel",
    sentinels: [
      { host: "s1", port: 26379 },
      { host: "::1", port: 26380 },
    ],
    name: "chat",
    sentinelUsername: "su",
    sentinelPassword: "sp",
    access: { username: "u", password: "p", db: 2, tls: { caFile: "/ca.pem", certFile: null, keyFile: null } },
  });
});

test("a cluster, by some of its nodes, seen through a NAT", () => {
  const { redis } = loadConfig({
    REDIS_CLUSTER_NODES: "a:7000,b:7001",
    REDIS_NAT_MAP: "10.0.0.1:6379=localhost:7000,10.0.0.2:6379=localhost:7001",
    REDIS_TLS: "on",
  });
  expect(redis).toEqual({
    kind: "cluster",
    nodes: [
      { host: "a", port: 7000 },
      { host: "b", port: 7001 },
    ],
    natMap: { "10.0.0.1:6379": { host: "localhost", port: 7000 }, "10.0.0.2:6379": { host: "localhost", port: 7001 } },
    access: { ...noAccess, tls: { caFile: null, certFile: null, keyFile: null } },
  });
});

test("one Redis holds the conversations: two ways to it are a mistake, and so is half a client certificate", () => {
  expect(problemsOf({ REDIS_URL: "redis://h", REDIS_CLUSTER_NODES: "a:1" })).toHaveProperty("REDIS_CLUSTER_NODES");
  expect(problemsOf({ REDIS_SENTINELS: "a:1", REDIS_CLUSTER_NODES: "a:1" })).toHaveProperty("REDIS_CLUSTER_NODES");
  expect(problemsOf({ REDIS_CLUSTER_NODES: "a:1", REDIS_DB: "1" })).toHaveProperty("REDIS_DB");
  expect(problemsOf({ REDIS_TLS_CERT_FILE: "c.pem" })).toHaveProperty("REDIS_TLS_KEY_FILE");
  expect(problemsOf({ REDIS_CLUSTER_NODES: "a:70000" })).toHaveProperty("REDIS_CLUSTER_NODES");
  expect(problemsOf({ REDIS_CLUSTER_NODES: "a:1", REDIS_NAT_MAP: "a:1" })).toHaveProperty("REDIS_NAT_MAP");
});

test("everything set", () => {
  const config = loadConfig({
    PORT: "0",
    HOST: "0.0.0.0",
    WORKERS: "3",
    AUTH: "jwt",
    AUTH_JWKS_URL: "https://login.example/keys",
    AUTH_JWT_ISSUER: "https://login.example/",
    AUTH_JWT_AUDIENCE: "chat",
    AUTH_CLOCK_SKEW_SECONDS: "10",
    AUTH_COOKIE: "session",
    REDIS_URL: "rediss://user:p%40ss@redis.example:6380/3",
    REDIS_COMMAND_TIMEOUT_MS: "1000",
    REDIS_WAIT_REPLICAS: "2",
    REDIS_WAIT_TIMEOUT_MS: "300",
    REDIS_KEYSPACE_EVENTS: "enable",
    LIST_KEYSPACE_EVENTS: "off",
    FEED_CHECK_MS: "1000",
    HISTORY_KEY_PREFIX: "message_store:",
    SESSION_TTL_SECONDS: "3600",
    MODEL: "anthropic:claude-x",
    MODELS: "openai:gpt-4o, offline,anthropic:claude-x",
    OPENAI_API_KEY: "sk-1",
    OPENAI_BASE_URL: "http://localhost:11434/v1",
    OPENAI_API: "responses",
    MODEL_TEMPERATURE: "0.5",
    MODEL_MAX_RETRIES: "0",
    MODEL_TIMEOUT_MS: "5000",
    AUTO_TITLE: "0",
    CLIENT_TOOLS: "on",
    OFFLINE_WORD_DELAY_MS: "300",
    SYSTEM_PROMPT: "Be brief. {literally}",
    MEMORY_STRATEGY: "SUMMARY_BUFFER",
    MEMORY_MAX_TURNS: "3",
    MEMORY_MAX_TOKENS: "500",
    MEMORY_MAX_MESSAGES: "50",
    MAX_MESSAGE_CHARS: "10",
    MAX_MESSAGES_PER_SESSION: "1000",
    MAX_QUEUED_RUNS: "0",
    RUN_LEASE_MS: "2000",
    REPLY_WAIT_MS: "0",
    SHUTDOWN_GRACE_MS: "0",
    MAX_BODY_BYTES: "2000",
    MAX_QUERY_TOKENS: "100",
    MAX_QUERY_DEPTH: "2",
    MAX_QUERY_ALIASES: "3",
    MAX_QUERY_DIRECTIVES: "4",
    MAX_QUERY_ROOT_FIELDS: "5",
    MAX_QUERY_DEFERS: "6",
    MAX_QUERY_COST: "7",
    PERSISTED_OPERATIONS: "auto",
    PERSISTED_OPERATIONS_FILE: "operations.json",
    HSTS_SECONDS: "3600",
    NODE_ENV: "production",
    METRICS: "on",
    METRICS_TOKEN: "0123456789abcdef",
    GRAPHIQL: "on",
    AG_UI: "on",
    CONSOLE: "on",
    INTROSPECTION: "1",
    ALLOWED_ORIGINS: "https://chat.example, http://localhost:3000",
    ALLOWED_HOSTS: "chat.example, gateway",
    LOG_LEVEL: "debug",
    AGENTS_FILE: "agents.json",
    MCP_CONNECT_TIMEOUT_MS: "700",
  });
  expect(config).toEqual({
    ...limitsByDefault,
    // Where there are subjects.
    maxSendsPerMinute: 600,
    maxRunsPerSubject: 50,
    maxSessionsPerOwner: 10_000,
    host: "0.0.0.0",
    port: 0,
    workers: 3,
    auth: {
      kind: "jwt",
      key: { jwksUrl: "https://login.example/keys" },
      issuer: "https://login.example/",
      audience: "chat",
      clockSkewSeconds: 10,
      cookie: "session",
    },
    redis: { kind: "url", url: "rediss://user:p%40ss@redis.example:6380/3", access: noAccess },
    redisCommandTimeoutMs: 1000,
    waitReplicas: 2,
    waitTimeoutMs: 300,
    enableKeyspaceEvents: true,
    listKeyspaceEvents: false,
    feedCheckMs: 1000,
    historyKeyPrefix: "message_store:",
    sessionTtlSeconds: 3600,
    model: "anthropic:claude-x",
    models: ["anthropic:claude-x", "openai:gpt-4o", "offline"],
    openai: { apiKey: "sk-1", baseUrl: "http://localhost:11434/v1", api: "responses" },
    modelTemperature: 0.5,
    modelMaxRetries: 0,
    modelTimeoutMs: 5000,
    mcpConnectTimeoutMs: 700,
    clientTools: true,
    autoTitle: false,
    offlineWordDelayMs: 300,
    systemPrompt: "Be brief. {literally}",
    memory: { strategy: "SUMMARY_BUFFER", maxTurns: 3, maxTokens: 500, maxMessages: 50 },
    maxMessageChars: 10,
    maxMessagesPerSession: 1000,
    maxQueuedRuns: 0,
    runLeaseMs: 2000,
    replyWaitMs: 0,
    shutdownGraceMs: 0,
    maxBodyBytes: 2000,
    queryLimits: {
      maxTokens: 100,
      maxDepth: 2,
      maxAliases: 3,
      maxDirectives: 4,
      maxRootFields: 5,
      maxDeferred: 6,
      maxCost: 7,
    },
    persistedOperations: { mode: "auto", file: "operations.json" },
    hstsSeconds: 3600,
    production: true,
    metrics: true,
    metricsToken: "0123456789abcdef",
    tracing: null,
    graphiql: true,
    console: true,
    agUi: true,
    introspection: true,
    allowedOrigins: ["https://chat.example", "http://localhost:3000"],
    allowedHosts: ["chat.example", "gateway"],
    logLevel: "debug",
    agentsFile: "agents.json",
  });
});

test.each([
  [{ OPENAI_API_KEY: "sk-1" }, true],
  [{ MODEL: "anthropic:claude-x" }, true],
  [{ OPENAI_API_KEY: "sk-1", MODEL: "offline" }, false],
  [{ OPENAI_API_KEY: "sk-1", AUTO_TITLE: "0" }, false],
  [{ AUTO_TITLE: "1" }, true],
])("with %j sessions get titles automatically: %s", (env, expected) => {
  expect(loadConfig(env).autoTitle).toBe(expected);
});

test("all mistakes are reported at once, each with its variable, none with its value", () => {
  const env = {
    PORT: "65536",
    REDIS_URL: "http://:secret@redis",
    MODEL: "gpt-4o secret",
    MODELS: "offline, secret",
    OPENAI_BASE_URL: "secret",
    MODEL_TEMPERATURE: "hot secret",
    MODEL_TIMEOUT_MS: "-1",
    MEMORY_STRATEGY: "secret",
    SESSION_TTL_SECONDS: "0",
    RUN_LEASE_MS: "1.5",
    REDIS_KEYSPACE_EVENTS: "secret",
    GRAPHIQL: "secret",
    CONSOLE: "secret",
    ALLOWED_ORIGINS: "https://chat.example/path",
    ALLOWED_HOSTS: "https://chat.example",
    LOG_LEVEL: "secret",
  };
  const problems = problemsOf(env);
  expect(Object.keys(problems).sort()).toEqual(Object.keys(env).sort());
  expect(JSON.stringify(problems)).not.toContain("secret");
  expect(problems["PORT"]).toBe("must be a whole number from 0 to 65535");
});

describe("persisted operations", () => {
  test("only what is listed needs a list, and leaves GraphiQL and the console nothing to do, and /ag-ui only if asked", () => {
    expect(problemsOf({ PERSISTED_OPERATIONS: "only" })).toHaveProperty("PERSISTED_OPERATIONS_FILE");
    expect(problemsOf({ PERSISTED_OPERATIONS: "off", PERSISTED_OPERATIONS_FILE: "a.json" })).toHaveProperty(
      "PERSISTED_OPERATIONS_FILE",
    );
    const only = { PERSISTED_OPERATIONS: "only", PERSISTED_OPERATIONS_FILE: "a.json" };
    expect(loadConfig(only)).toMatchObject({
      ...{ graphiql: false, console: false, agUi: false },
      persistedOperations: { mode: "only", file: "a.json" },
    });
    expect(problemsOf({ ...only, GRAPHIQL: "on" })).toHaveProperty("GRAPHIQL");
    expect(problemsOf({ ...only, CONSOLE: "on" })).toHaveProperty("CONSOLE");
    expect(loadConfig({ ...only, AG_UI: "on" })).toMatchObject({ agUi: true });
    expect(problemsOf({ PERSISTED_OPERATIONS: "some" })).toHaveProperty("PERSISTED_OPERATIONS");
  });
});

describe("defaults that follow from others", () => {
  test("a key, or a server of its own, makes OpenAI the default model", () => {
    expect(loadConfig({ OPENAI_API_KEY: "sk-1" }).model).toBe("openai:gpt-4o-mini");
    expect(loadConfig({ OPENAI_BASE_URL: "http://localhost:11434/v1" }).model).toBe("openai:gpt-4o-mini");
  });

  test("an OpenAI model without either is a mistake", () => {
    expect(problemsOf({ MODEL: "openai:gpt-4o" })).toHaveProperty("OPENAI_API_KEY");
    expect(problemsOf({ MODELS: "openai:gpt-4o" })).toHaveProperty("OPENAI_API_KEY");
    expect(problemsOf({ MODEL: "openai:gpt-4o", OPENAI_BASE_URL: "http://localhost:1/v1" })).toEqual({});
  });

  test("production switches GraphiQL, the console, /ag-ui and introspection off, unless they are switched on", () => {
    expect(loadConfig({ NODE_ENV: "production" })).toMatchObject({
      ...{ graphiql: false, console: false, agUi: false, introspection: false },
    });
    expect(loadConfig({ NODE_ENV: "production", AG_UI: "on" })).toMatchObject({ agUi: true, console: false });
    expect(loadConfig({ AG_UI: "off" })).toMatchObject({ agUi: false, console: true });
    expect(loadConfig({ NODE_ENV: "production", GRAPHIQL: "true" })).toMatchObject({
      ...{ graphiql: true, console: false, introspection: false },
    });
    expect(loadConfig({ NODE_ENV: "production", CONSOLE: "on" })).toMatchObject({
      ...{ graphiql: false, console: true, introspection: false },
    });
    expect(loadConfig({ GRAPHIQL: "off", CONSOLE: "off", INTROSPECTION: "0" })).toMatchObject({
      ...{ graphiql: false, console: false, introspection: false },
    });
  });

  test("an empty variable counts as left out", () => {
    expect(loadConfig({ PORT: "", REDIS_URL: " ", SYSTEM_PROMPT: "" })).toEqual(loadConfig({}));
  });
});

describe("who may", () => {
  const prefixed = { HISTORY_KEY_PREFIX: "chat:" };

  test("without AUTH everyone on this machine has access, and others only with ALLOW_ANONYMOUS", () => {
    expect(problemsOf({ HOST: "0.0.0.0" })["HOST"]).toMatch(/AUTH.*ALLOW_ANONYMOUS=1/);
    for (const HOST of ["::", "10.0.0.1", "chat.example"]) expect(problemsOf({ HOST })).toHaveProperty("HOST");
    for (const HOST of ["localhost", "127.0.0.1", "127.1.2.3", "::1"]) expect(problemsOf({ HOST })).toEqual({});
    expect(loadConfig({ HOST: "0.0.0.0", ALLOW_ANONYMOUS: "1" }).auth).toEqual({ kind: "none", allowAnonymous: true });
    expect(problemsOf({ HOST: "0.0.0.0", AUTH: "keys", AUTH_KEYS_FILE: "k", ...prefixed })).toEqual({});
  });

  test("tokens have one kind of key", () => {
    expect(problemsOf({ AUTH: "jwt", ...prefixed })).toHaveProperty("AUTH_JWT_SECRET");
    const both = { AUTH: "jwt", AUTH_JWT_SECRET: "s".repeat(32), AUTH_JWKS_URL: "https://login.example", ...prefixed };
    expect(problemsOf(both)).toHaveProperty("AUTH_JWKS_URL");
    expect(loadConfig({ AUTH: "jwt", AUTH_JWT_SECRET: "s".repeat(32), ...prefixed }).auth).toEqual({
      kind: "jwt",
      key: { secret: "s".repeat(32) },
      issuer: null,
      audience: null,
      clockSkewSeconds: 5,
      cookie: null,
    });
    expect(problemsOf({ AUTH: "keys", ...prefixed })).toHaveProperty("AUTH_KEYS_FILE");
    expect(problemsOf({ AUTH: "oauth" })).toHaveProperty("AUTH");
  });

  test.each([{ NODE_ENV: "production" }, { HOST: "0.0.0.0" }])(
    "with %o a secret cannot be guessed, and keys come over TLS",
    (exposed) => {
      const jwt = { ...exposed, AUTH: "jwt", ...prefixed };
      expect(problemsOf({ ...jwt, AUTH_JWT_SECRET: "short" })).toHaveProperty("AUTH_JWT_SECRET");
      expect(problemsOf({ ...jwt, AUTH_JWKS_URL: "http://login.example" })).toHaveProperty("AUTH_JWKS_URL");
      expect(problemsOf({ ...jwt, AUTH_JWKS_URL: "http://127.0.0.1:9/keys" })).toEqual({});
    },
  );

  test("with AUTH a HISTORY_KEY_PREFIX is needed, unless ALLOW_BARE_KEYS is set", () => {
    const keys = { AUTH: "keys", AUTH_KEYS_FILE: "k" };
    expect(problemsOf(keys)["HISTORY_KEY_PREFIX"]).toMatch(/ALLOW_BARE_KEYS=1/);
    expect(problemsOf({ ...keys, ALLOW_BARE_KEYS: "1" })).toEqual({});
  });
});

test.each(["redis://localhost", "redis://localhost:6379/0", "rediss://u:p@h:1/15", "redis://[::1]:6379"])(
  "%s is a Redis URL",
  (url) => {
    expect(loadConfig({ REDIS_URL: url }).redis).toEqual({ kind: "url", url, access: noAccess });
  },
);

test.each(["localhost:6379", "redis://", "redis://h/one", "memcached://h", "redis://h:notaport"])(
  "%s is none",
  (url) => {
    expect(problemsOf({ REDIS_URL: url })).toHaveProperty("REDIS_URL");
  },
);

test("the table for --help and docs/configuration.md names each variable once, with a description", () => {
  const names = variables.map(({ variable }) => variable);
  expect(new Set(names).size).toBe(names.length);
  expect(variables.filter(({ description }) => !/^.{10,}\.$/s.test(description))).toEqual([]);
  expect(names).toEqual(expect.arrayContaining(["PORT", "REDIS_URL", "MODEL", "SHUTDOWN_GRACE_MS", "LOG_LEVEL"]));
});
