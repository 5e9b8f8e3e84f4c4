import { describe, expect, test } from "vitest";

import { limits } from "../../src/config/limits.ts";
import { ConfigError, loadConfig } from "../../src/config/load.ts";
import { settle } from "../../src/options.ts";

const redis = "redis://127.0.0.1:1";
const withAuth = { AUTH: "keys", AUTH_KEYS_FILE: "k", HISTORY_KEY_PREFIX: "chat:" };
const auth = { kind: "keys", file: "k", cookie: null } as const;

describe("limits", () => {
  test("what one subject may is limited where there are subjects", () => {
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
