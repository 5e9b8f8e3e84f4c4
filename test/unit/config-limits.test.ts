import { availableParallelism } from "node:os";
import { describe, expect, test } from "vitest";

import { limits, limitsOfProcess, shareOf } from "../../src/config/limits.ts";
import { ConfigError, loadConfig } from "../../src/config/load.ts";
import { settle } from "../../src/options.ts";

const redis = "redis://127.0.0.1:1";
const withAuth = { AUTH: "keys", AUTH_KEYS_FILE: "k", HISTORY_KEY_PREFIX: "chat:" };
const auth = { kind: "keys", file: "k", cookie: null } as const;

describe("limits", () => {
  test("limits of a subject apply only if there is authentication", () => {
    const limited = {
      maxSendsPerMinute: 600,
      maxRunsPerSubject: 50,
      maxTokensPerDay: null,
      maxSessionsPerOwner: 10_000,
    };
    expect(loadConfig(withAuth)).toMatchObject(limited);
    expect(settle({ redis, auth })).toMatchObject(limited);
    expect(settle({ redis, authenticate: () => null })).toMatchObject(limited);
    const free = { maxSendsPerMinute: null, maxRunsPerSubject: null, maxTokensPerDay: null, maxSessionsPerOwner: null };
    expect(loadConfig({})).toMatchObject(free);
    expect(settle({ redis })).toMatchObject(free);
  });

  test("createGateway and the command have the same defaults", () => {
    for (const [config, settled] of [
      [loadConfig({}), settle({ redis })],
      [loadConfig(withAuth), settle({ redis, auth })],
    ] as const) {
      const names = Object.keys(limits);
      expect(names).toHaveLength(31);
      for (const name of names) expect([name, Reflect.get(settled, name)]).toEqual([name, Reflect.get(config, name)]);
      expect(settled.queryLimits).toEqual(config.queryLimits);
    }
  });

  test("a default as the table shows it, given as a variable, is that default", () => {
    const shown = Object.values(limits).flatMap(({ variable, shownDefault }) =>
      shownDefault === null || !/^\d+$/.test(shownDefault) ? [] : [[variable, shownDefault] as const],
    );
    expect(shown).toHaveLength(26);
    expect(loadConfig(Object.fromEntries(shown))).toEqual(loadConfig({}));
    const { maxSendsPerMinute, maxRunsPerSubject, maxSessionsPerOwner } = limits;
    expect([maxSendsPerMinute, maxRunsPerSubject, maxSessionsPerOwner].map((one) => one.shownDefault)).toEqual([
      "600 with AUTH, else 0",
      "50 with AUTH, else 0",
      "10000 with AUTH, else 0",
    ]);
  });

  test("0 is no limit, where there may be none", () => {
    const none = {
      MAX_SENDS_PER_MINUTE: "0",
      MAX_RUNS_PER_SUBJECT: "0",
      MAX_SESSIONS_PER_OWNER: "0",
      MAX_SOCKETS_PER_ADDRESS: "0",
    };
    expect(loadConfig({ ...withAuth, ...none })).toMatchObject({
      maxSendsPerMinute: null,
      maxRunsPerSubject: null,
      maxSessionsPerOwner: null,
      maxSocketsPerAddress: null,
    });
  });

  test.each<[string, number | string[]]>([
    ["1", 1],
    ["10.0.0.0/8, ::1", ["10.0.0.0/8", "::1"]],
  ])("TRUST_PROXY=%s", (text, trustProxy) => {
    expect(loadConfig({ TRUST_PROXY: text })).toMatchObject({ trustProxy });
  });

  test.each([
    ["MAX_CONNECTIONS", "0", "must be a whole number from 1 to 1000000"],
    ["MAX_SENDS_PER_MINUTE", "-1", "must be a whole number from 0 to 1000000"],
    [
      "TRUST_PROXY",
      "on",
      "must be how many proxies stand in front, or their addresses and networks such as 10.0.0.0/8",
    ],
    [
      "TRUST_PROXY",
      "10.0.0.0/33",
      "must be how many proxies stand in front, or their addresses and networks such as 10.0.0.0/8",
    ],
  ])("%s=%s is a mistake", (variable, value, message) => {
    try {
      loadConfig({ [variable]: value });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      expect((error as ConfigError).problems).toEqual([{ variable, message }]); // just checked
    }
  });
});

/** The mistakes of a configuration, as they are told. */
function mistakesOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ variable, message }) => `${variable}: ${message}`);
  }
}

describe("WORKERS", () => {
  test("auto is one for each core that the process may use", () => {
    expect(loadConfig({ WORKERS: "auto" }).workers).toBe(Math.min(128, availableParallelism()));
    expect(loadConfig({ WORKERS: "7" }).workers).toBe(7);
  });

  test.each(["0", "x", "1000", "-1", "1.5", "AUTO"])("%s is a mistake", (value) => {
    expect(mistakesOf({ WORKERS: value })).toEqual(["WORKERS: must be a whole number from 1 to 128, or auto"]);
  });

  test("limits counted in Redis or per connection stay as they are, limits of a process are divided by the workers", () => {
    const whole = {
      ...{ maxSocketsPerSubject: 1000, maxSocketsPerAddress: 2001, maxRequestsPerMinute: null },
      ...{ maxConnections: 7, maxConcurrentOperations: 4, maxPendingAnswerBytes: 10_000 },
    };
    expect(shareOf(whole, 4)).toEqual({
      ...{ maxSocketsPerSubject: 250, maxSocketsPerAddress: 500, maxRequestsPerMinute: null },
      ...{ maxConnections: 1, maxConcurrentOperations: 1, maxPendingAnswerBytes: 2500 },
    });
    expect(Object.keys(shareOf(whole, 1))).toEqual([...limitsOfProcess]);
    // A new limit belongs to one of these: counted in Redis, or of one request, message, session or socket; or of time.
    const others = [
      ...["maxMessageChars", "maxMessagesPerSession", "maxQueuedRuns", "maxBodyBytes", "maxSendsPerMinute"],
      ...["maxRunsPerSubject", "maxTokensPerDay", "maxSessionsPerOwner", "maxTitleChars", "maxMetadataBytes"],
      ...["maxMessagesPerAdd", "runPartsBytes", "maxSubscriptionsPerSocket", "maxMessagesPerSecond", "maxAnswerBytes"],
      ...["maxEventLoopLagMs", "headersTimeoutMs", "requestTimeoutMs", "maxHeaderBytes", "keepAliveTimeoutMs"],
      ...["initTimeoutMs", "keepAliveMs", "slowReaderMs", "trustProxy", "approvalTimeoutSeconds"],
    ];
    expect([...limitsOfProcess, ...others].sort()).toEqual(Object.keys(limits).sort());
  });

  test("a limit below the number of workers is refused, by name", () => {
    const told = (variable: string) => `${variable}: must be at least 4 with WORKERS=4: each has a share`;
    const few = { MAX_CONNECTIONS: "3", MAX_SOCKETS_PER_ADDRESS: "3", MAX_REQUESTS_PER_MINUTE: "1" };
    expect(mistakesOf({ WORKERS: "4", ...few })).toEqual(
      ["MAX_SOCKETS_PER_ADDRESS", "MAX_REQUESTS_PER_MINUTE", "MAX_CONNECTIONS"].map(told),
    );
    expect(mistakesOf({ WORKERS: "3", ...few })).toEqual([
      "MAX_REQUESTS_PER_MINUTE: must be at least 3 with WORKERS=3: each has a share",
    ]);
    expect(mistakesOf({ WORKERS: "4", MAX_SOCKETS_PER_ADDRESS: "0" })).toEqual([]);
    expect(mistakesOf({ WORKERS: "1", ...few })).toEqual([]);
  });
});
