import { describe, expect, test } from "vitest";

import { limitDefinitions } from "../../src/config/limits.ts";
import { ConfigError, loadConfig } from "../../src/config/load.ts";
import { quotaLimits, sessionLimit, transportLimits } from "../../src/config/limit-options.ts";
import { defaultTransportLimits } from "../../src/transport/guard/settings.ts";

const limitsIn = (env: Record<string, string>) => {
  const config = loadConfig(env);
  return {
    transport: transportLimits(config),
    quotas: quotaLimits(config, true),
    sessions: sessionLimit(config, true),
  };
};

describe("limits", () => {
  test("what is not given is left to the gateway's defaults", () => {
    expect(limitsIn({})).toEqual({
      transport: {},
      quotas: { sendsPerMinute: 600, runs: 50, tokensPerDay: null },
      sessions: 10_000,
    });
    expect(quotaLimits(loadConfig({}), false)).toEqual({ sendsPerMinute: null, runs: null, tokensPerDay: null });
    expect(sessionLimit(loadConfig({}), false)).toBeNull();
  });

  test("the table tells the defaults that there are", () => {
    const told = Object.fromEntries(
      Object.entries(limitDefinitions).flatMap(([name, { default: fallback }]) =>
        fallback === null || !/^\d+$/.test(fallback) ? [] : [[name, fallback]],
      ),
    );
    const limits = { ...defaultTransportLimits, ...limitsIn(told).transport };
    expect(limits).toEqual(defaultTransportLimits);
    expect(Object.keys(limitsIn(told).transport)).toHaveLength(14);
    const {
      MAX_SENDS_PER_MINUTE: sends,
      MAX_RUNS_PER_SUBJECT: runs,
      MAX_SESSIONS_PER_OWNER: sessions,
    } = limitDefinitions;
    const { quotas, sessions: most } = limitsIn({});
    for (const [{ default: text }, value] of [
      [sends, quotas.sendsPerMinute],
      [runs, quotas.runs],
      [sessions, most],
    ] as const) {
      expect(text).toBe(`${String(value)} with AUTH, else 0`);
    }
  });

  test("0 is no limit, where there may be none", () => {
    const none = limitsIn({
      MAX_SENDS_PER_MINUTE: "0",
      MAX_RUNS_PER_SUBJECT: "0",
      MAX_SESSIONS_PER_OWNER: "0",
      MAX_SOCKETS_PER_ADDRESS: "0",
    });
    expect(none.quotas).toEqual({ sendsPerMinute: null, runs: null, tokensPerDay: null });
    expect([none.sessions, none.transport]).toEqual([null, { socketsPerAddress: null }]);
  });

  test.each<[string, number | string[]]>([
    ["1", 1],
    ["10.0.0.0/8, ::1", ["10.0.0.0/8", "::1"]],
  ])("TRUST_PROXY=%s", (text, trustedProxies) => {
    expect(limitsIn({ TRUST_PROXY: text }).transport).toEqual({ trustedProxies });
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
