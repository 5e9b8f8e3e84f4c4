import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { recordOnly } from "../../src/conversation/conversations/api.ts";
import { anonymous } from "../../src/conversation/session.ts";
import { readScript, textNames } from "../../src/redis/scripts/scripts.ts";
import { probeServer } from "../../src/embedded-redis/probe.ts";
import { freePort } from "../../src/embedded-redis/port.ts";
import { makeCertificates, type TestCertificates } from "../support/redis/certificates.ts";
import * as chat from "../support/gateway/conversation.ts";
import { spawnGateway, startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, request } from "../support/gateway/graphql-client.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { startServerProcess } from "../support/redis/server-process.ts";
import { foreignRow } from "../support/store/store.ts";

function ready(url: string): Promise<void> {
  return waitUntil("it is ready", async () => (await fetch(new URL("/readyz", url))).ok);
}

function isText(text: string): (event: chat.SessionEvent) => boolean {
  return (event) => event.__typename === "MessageAdded" && event.message.text === text;
}

/** It has met nobody who could tell it its address. */
const clusterOfOne = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];

describe("TLS", () => {
  let files: TestCertificates;
  const servers: TestRedis[] = [];

  beforeAll(async () => {
    files = await makeCertificates();
  });
  afterAll(() => Promise.all(servers.map((server) => server.stop())));

  /** A server with a port for TLS beside its own, which only the tests use. */
  async function startTls(
    ...args: readonly string[]
  ): Promise<{ readonly server: TestRedis; readonly tlsPort: number }> {
    const tlsPort = await freePort();
    const server = await startRedis({ args: [...tlsArgs(tlsPort), ...args] });
    servers.push(server);
    return { server, tlsPort };
  }

  function tlsArgs(tlsPort: number): readonly string[] {
    const { caFile, certFile, keyFile } = files;
    return [
      ...["--tls-port", String(tlsPort), "--tls-ca-cert-file", caFile],
      ...["--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "yes"],
    ];
  }

  const trust = () => ({ REDIS_TLS_CA_FILE: files.caFile });
  const identity = () => ({ REDIS_TLS_CERT_FILE: files.clientCertFile, REDIS_TLS_KEY_FILE: files.clientKeyFile });

  /** A turn, followed, and a foreign row heard at once: both kinds of connections are there. */
  async function works(env: Readonly<Record<string, string>>, server: TestRedis): Promise<void> {
    const gateway = await spawnGateway({ LOG_LEVEL: "warn", FEED_CHECK_MS: "600000", ...env });
    await ready(gateway.url);
    await chat.addMessages(gateway.url, "tls", [{ role: "SYSTEM", text: "Begin" }]);
    const stream = await chat.follow(gateway.url, "tls");
    const { run } = await chat.ask(gateway.url, "tls", "Hi! I'm Jim.");
    await command(server, "LPUSH", "tls", foreignRow("over plain TCP"));
    await stream.waitFor(isText("over plain TCP"));
    stream.close();
    expect(run.status).toBe("COMPLETED");
    expect(await gateway.stop()).toBe(0);
  }

  test("rediss:// with an own authority and a client certificate", async () => {
    const { server, tlsPort } = await startTls();
    await works({ REDIS_URL: `rediss://localhost:${tlsPort}`, ...trust(), ...identity() }, server);
  });

  test.each([
    ["without the authority", () => identity()],
    ["without the client's certificate", () => trust()],
  ])("%s there is no connection, and the gateway says so", async (_name, env) => {
    const { tlsPort } = await startTls();
    const gateway = await spawnGateway({
      ...{ REDIS_URL: `rediss://localhost:${tlsPort}`, LOG_LEVEL: "warn", REDIS_COMMAND_TIMEOUT_MS: "500" },
      ...env(),
    });
    const { errors } = await request(gateway.url, `{ session(sessionId: "x") { id } }`);
    expect(errors?.[0]?.extensions?.code).toBe("STORE_UNAVAILABLE");
    expect((await fetch(new URL("/readyz", gateway.url))).status).toBe(503);
    expect(gateway.output).toContain("Redis cannot be asked right now");
    await gateway.kill();
  });

  test("Sentinel and its server over TLS, with passwords of their own", async () => {
    const { server, tlsPort } = await startTls("--requirepass", "data", "--tls-replication", "yes");
    const sentinelPort = await freePort();
    const sentinel = await startServerProcess({
      password: "watch",
      args: async (port, directory) => {
        const file = join(directory, "sentinel.conf");
        const settings = [
          ...[`port ${port}`, "bind 127.0.0.1", `dir ${directory}`, "requirepass watch", "tls-replication yes"],
          ...[`sentinel monitor tls 127.0.0.1 ${tlsPort} 1`, "sentinel auth-pass tls data"],
        ];
        await writeFile(file, settings.join("\n") + "\n");
        return [file, "--sentinel", ...tlsArgs(sentinelPort)];
      },
      answers: async (port) => (await probeServer({ port, password: "watch" })).kind !== "silent",
    });
    servers.push(sentinel);
    const env = {
      ...{ REDIS_SENTINELS: `127.0.0.1:${sentinelPort}`, REDIS_SENTINEL_NAME: "tls", REDIS_SENTINEL_PASSWORD: "watch" },
      ...{ REDIS_PASSWORD: "data", REDIS_TLS: "on", ...trust(), ...identity() },
    };
    const gateway = await spawnGateway({ LOG_LEVEL: "warn", ...env });
    await ready(gateway.url);
    expect((await chat.ask(gateway.url, "tls", "Hi! I'm Jim.")).run.status).toBe("COMPLETED");
    expect(await gateway.stop()).toBe(0);
    expect(server.running).toBe(true);
  });

  test("a cluster over TLS", async () => {
    const { server, tlsPort } = await startTls(...clusterOfOne, "--tls-cluster", "yes");
    await command(server, "CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    await waitUntil("the slots are served", async () => {
      return (await command<string>(server, "CLUSTER", "INFO")).includes("cluster_state:ok");
    });
    await works({ REDIS_CLUSTER_NODES: `localhost:${tlsPort}`, REDIS_TLS: "on", ...trust(), ...identity() }, server);
  });
});

/** The rule that docs/redis.md gives, by words. */
function documentedRule(): readonly string[] {
  const page = readFileSync(new URL("../../docs/redis.md", import.meta.url), "utf8");
  const block = /<!-- acl: begin -->\s*```\w*\n([\s\S]*?)```\s*<!-- acl: end -->/.exec(page)?.[1] ?? "";
  const words = block.replace(/\\\n/g, " ").trim().split(/\s+/);
  expect(words.slice(0, 3)).toEqual(["ACL", "SETUSER", "parley"]);
  return words.slice(3);
}

const password = "a-long-password";

/** The commands that any script calls. */
function called(): readonly string[] {
  const names = textNames.flatMap((file) =>
    [...readScript(file).matchAll(/\bcall\('([A-Z]+)'/g)].map(([, name]) => name),
  );
  return [...new Set(names.flatMap((name) => name ?? []))];
}

describe.each([
  ["any key", "", ["~*"]],
  ["the keys of a prefix", "chat:", ["~chat:*", "~parley:*"]],
])("with the documented ACL user for %s, which may not CONFIG", (_name, historyKeyPrefix, patterns) => {
  const servers: TestRedis[] = [];
  const gateways: TestGateway[] = [];
  const used = new Set<string>();

  afterAll(async () => {
    await Promise.all(gateways.map((gateway) => gateway.close()));
    await Promise.all(servers.map((server) => server.stop()));
  });

  async function startWithUser(...args: readonly string[]): Promise<TestRedis> {
    const server = await startRedis({ args });
    servers.push(server);
    const rule = documentedRule().flatMap((word) => (word === "~*" ? patterns : [word]));
    expect(rule).toContain(`>${password}`);
    await command(server, "ACL", "SETUSER", "parley", ...rule);
    return server;
  }

  async function startTwo(redis: Parameters<typeof startGateway>[0]["redis"]): Promise<readonly [string, string]> {
    const limits = { maxSendsPerMinute: 1000, maxRunsPerSubject: 100, maxTokensPerDay: 1e9, maxSessionsPerOwner: 100 };
    const options = { redis, historyKeyPrefix, runLeaseMs: 2000, sessionTtlSeconds: 100, feedCheckMs: 1000, ...limits };
    const started = await Promise.all([startGateway(options), startGateway(options)]);
    gateways.push(...started);
    for (const { url } of started) await ready(url);
    const [one, two] = started;
    return [one.url, two.url];
  }

  /** What a gateway does, most of it twice over. */
  async function useAll(server: TestRedis, [here, there]: readonly [string, string]): Promise<void> {
    const key = `${historyKeyPrefix}all`;
    await command(server, "LPUSH", key, foreignRow("before"));
    expect(await gateways.at(-1)?.gateway.adopt()).toMatchObject({ adopted: 1 });
    const stream = await chat.follow(there, "all");
    const closing = new AbortController();
    await gateways.at(-1)?.gateway.conversations.sessionChanged(anonymous, recordOnly, closing.signal);
    await chat.ask(here, "all", "Hi! I'm Jim.", { messageId: "first" });
    await command(server, "LPUSH", key, foreignRow("foreign"));
    await stream.waitFor(isText("foreign"));
    await chat.ask(here, "all", "And then?");
    await chat.regenerate(there, "all");
    await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    await execute(
      here,
      `mutation { forkSession(input: { sessionId: "all", newSessionId: "fork" }) { session { id } } }`,
    );
    await execute(here, `mutation { createSession(input: { sessionId: "made", ttlSeconds: 1 }) { session { id } } }`);
    await execute(
      here,
      `mutation { updateSession(input: { sessionId: "all", title: "T", ttlSeconds: null }) { session { id } } }`,
    );
    await execute(here, `mutation { markRead(input: { sessionId: "all" }) { session { id } } }`);
    const made = await chat.follow(there, "made");
    await chat.addMessages(here, "made", [{ role: "USER", text: "x" }]);
    await made.waitForEnd();
    expect(made.events.at(-1)?.__typename).toBe("SessionRemoved");
    const listed = `{ sessions { nodes { sessionId } } }`;
    await waitUntil("what expired is listed no more", async () => {
      type Listed = { sessions: { nodes: readonly { sessionId: string }[] } };
      const { sessions } = await execute<Listed>(there, listed);
      return (
        sessions.nodes
          .map(({ sessionId }) => sessionId)
          .sort()
          .join() === "all,fork"
      );
    });
    await waitUntil("the list is held against what is known of it", async () => {
      return (await command<string>(server, "INFO", "commandstats")).includes("cmdstat_zcard:");
    });
    closing.abort();
    await execute(here, `mutation { clearHistory(input: { sessionId: "fork" }) { session { id } } }`);
    await execute(here, `mutation { deleteSession(input: { sessionId: "all" }) { deletedId } }`);
    await stream.waitForEnd();
    expect(await command(server, "EXISTS", key)).toBe(0);
  }

  /** What the server refused, apart from CONFIG. */
  async function refusals(server: TestRedis): Promise<readonly unknown[]> {
    const log = await command<unknown[][]>(server, "ACL", "LOG");
    // Flat pairs, some of whose values name the command or the key.
    return log.map((entry) => entry[entry.indexOf("object") + 1]).filter((what) => what !== "config|get");
  }

  /** What ran at all, the tests' own commands included. */
  async function noteUsed(server: TestRedis): Promise<void> {
    const stats = await command<string>(server, "INFO", "commandstats");
    for (const [, name] of stats.matchAll(/^cmdstat_([^:]+):/gm)) if (name !== undefined) used.add(`+${name}`);
  }

  test("everything works on one server, and nothing else was tried", async () => {
    const server = await startWithUser();
    await useAll(server, await startTwo(`redis://parley:${password}@127.0.0.1:${server.port}`));
    expect(await refusals(server)).toEqual([]);
    await noteUsed(server);
  });

  test("everything works on a cluster, and nothing else was tried", async () => {
    const server = await startWithUser(...clusterOfOne);
    await command(server, "CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    const nodes = { cluster: [{ host: "127.0.0.1", port: server.port }] };
    await useAll(server, await startTwo({ ...nodes, options: { redisOptions: { username: "parley", password } } }));
    expect(await refusals(server)).toEqual([]);
    await noteUsed(server);
  });

  test("no command is allowed that is not used", () => {
    const inScripts = new Set(called().map((name) => `+${name.toLowerCase()}`));
    expect(inScripts.size).toBeGreaterThan(20);
    const idle = documentedRule().filter((word) => word.startsWith("+") && !used.has(word) && !inScripts.has(word));
    // Another database than 0, a slot on its way, replicas.
    expect(idle).toEqual(["+wait", "+select", "+asking", "+readonly", "+readwrite"]);
  });

  test("each command of each script is allowed, WAIT too, and nothing that is dangerous", async () => {
    const server = await startWithUser();
    const dry = async (...words: readonly string[]) => command<string>(server, "ACL", "DRYRUN", "parley", ...words);
    const infoOf = await command<[string, number][]>(server, "COMMAND", "INFO", ...called());
    for (const [name, arity] of infoOf) {
      const words = [name, ...Array.from({ length: Math.abs(arity) - 1 }, () => `${historyKeyPrefix}1`)];
      expect([name, await dry(...words)]).toEqual([name, "OK"]);
    }
    expect(await dry("WAIT", "1", "100")).toBe("OK");
    for (const words of [
      ["FLUSHALL"],
      ["KEYS", "*"],
      ["CONFIG", "SET", "dir", "/"],
      ["DEBUG", "SLEEP", "1"],
      ["SHUTDOWN"],
    ]) {
      expect(await dry(...words)).toMatch(/no permissions/);
    }
  });
});
