import { execFile } from "node:child_process";
import { chmod, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startScreen } from "../../src/cli/start-screen.ts";
import { spawnGateway } from "../support/gateway/gateway.ts";
import { freePort } from "../support/model/reply-requests.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { runParley } from "../support/gateway/parley-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

// The examples on the screen as someone pastes them into a shell. Where the tests run there may be no curl: this stands for it.
const curl = `#!/usr/bin/env node
const [url] = process.argv.slice(2).filter((word) => word.startsWith("http"));
const headers = {};
let body;
for (let i = 2; i < process.argv.length; i += 1) {
  const next = process.argv[i + 1];
  if (process.argv[i] === "-H") headers[next.split(": ")[0]] = next.slice(next.indexOf(": ") + 2);
  if (process.argv[i] === "-d") body = next;
}
fetch(url, { method: "POST", headers, body }).then((answer) => answer.text()).then((text) => process.stdout.write(text));
`;

let redis: TestRedis;
let folder = "";
beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
  folder = await temporaryDirectory();
  await writeFile(join(folder, "curl"), curl);
  await chmod(join(folder, "curl"), 0o755);
});
afterAll(() => redis.stop());

/** What is indented below each "To try: …". */
function examplesOf(screen: string): readonly string[] {
  const [, ...parts] = screen.split("To try: ");
  return parts.map((part) => part.slice(part.indexOf("\n")).replace(/^ {4}/gm, "").trim());
}

/** The screen comes in pieces. */
async function screenOf(gateway: { readonly output: string }, end: string): Promise<string> {
  await waitUntil("the screen is whole", () => Promise.resolve(gateway.output.includes(end)));
  return gateway.output;
}

async function paste(example: string): Promise<string> {
  const env = { PATH: `${folder}:${process.env["PATH"] ?? ""}` };
  return (await promisify(execFile)("/bin/sh", ["-c", example], { env, timeout: 60_000 })).stdout;
}

async function pasteNode(example: string, env: Readonly<Record<string, string>>): Promise<string> {
  // Beside the checkout's own node_modules.
  const file = join(import.meta.dirname, "..", "..", "node_modules", `.screen-${process.pid}.mjs`);
  await writeFile(file, example);
  try {
    return (await promisify(execFile)(process.execPath, [file], { env, timeout: 60_000 })).stdout;
  } finally {
    await rm(file);
  }
}

test("without authentication: a message, and the same conversation from LangChain", async () => {
  const gateway = await spawnGateway({ REDIS_URL: redis.url });
  const screen = await screenOf(gateway, "process.exit()");
  expect(screen).toContain("is ready.");
  const [send = "", langchain = ""] = examplesOf(screen);
  expect(await paste(send)).toContain('{"data":{"sendMessage":{"reply":{"text":"Hello Jim!');
  expect(await pasteNode(langchain, {})).toContain("human Hi! I am Jim.\nai Hello Jim!");
  await gateway.stop();
});

test("with MODEL=agent:…: the message suits an agent, whatever its tools are", async () => {
  const agents = join(folder, "screen-agents.json");
  await writeFile(agents, JSON.stringify({ agents: { helper: { model: "offline" } } }));
  const gateway = await spawnGateway({ REDIS_URL: redis.url, AGENTS_FILE: agents, MODEL: "agent:helper" });
  const screen = await screenOf(gateway, "process.exit()");
  expect(screen).toContain("To try: ask the agent helper, and see which tools it has called");
  const [send = ""] = examplesOf(screen);
  expect(JSON.parse(await paste(send))).toMatchObject({
    data: { sendMessage: { run: { messages: [{ toolCalls: [] }] } } },
  });
  await gateway.stop();
});

test("with AUTH=keys: in a session of the key's owner", async () => {
  const file = join(folder, "keys.jsonl");
  const { stdout: key } = await runParley(folder, ["keys", "add", "--subject", "jim"], { AUTH_KEYS_FILE: file });
  const env = { REDIS_URL: redis.url, AUTH: "keys", AUTH_KEYS_FILE: file, HISTORY_KEY_PREFIX: "chat:" };
  const gateway = await spawnGateway(env);
  const [send = "", langchain = ""] = examplesOf(await screenOf(gateway, "process.exit()"));
  expect(send).toContain("export TOKEN=…");
  const answer = await paste(`${send.replace("TOKEN=…", `TOKEN=${key.trim()}`)}\necho; echo "$SESSION"`);
  const [sent, session = ""] = answer.trim().split("\n");
  expect(sent).toContain('{"data":{"sendMessage":{"reply":{"text":"Hello Jim!');
  expect(session).toMatch(/^jim:[0-9a-f-]{36}$/);
  expect(await pasteNode(langchain, { SESSION: session })).toContain("human Hi! I am Jim.\nai Hello Jim!");
  await gateway.stop();
});

test("with PERSISTED_OPERATIONS=only there is no GraphiQL: its operations are on no list", async () => {
  const file = join(folder, "operations.json");
  await writeFile(file, JSON.stringify({ Who: "{ viewer { subject } }" }));
  const gateway = await spawnGateway({
    REDIS_URL: redis.url,
    PERSISTED_OPERATIONS: "only",
    PERSISTED_OPERATIONS_FILE: file,
  });
  const screen = await screenOf(gateway, "PERSISTED_OPERATIONS_FILE, and no others");
  expect(screen).not.toContain("curl");
  await gateway.stop();
  expect(gateway.output).not.toContain("To try");
});

test("where Redis does not answer it says so, and not that Parley is ready", async () => {
  const port = await freePort();
  const gateway = await spawnGateway({ REDIS_URL: `redis://127.0.0.1:${port}` });
  const screen = await screenOf(gateway, "GraphiQL");
  expect(screen).toContain("is started, but not ready.");
  expect(screen).toMatch(new RegExp(`Redis +redis://127\\.0\\.0\\.1:${port}\n +DOES NOT ANSWER`));
  await gateway.stop();
});

const common = {
  redisAnswers: true,
  version: "1",
  workers: 1,
  url: "http://h:1",
  console: false,
  graphiql: false,
  model: "offline",
  historyKeyPrefix: "",
} as const;

test("a password is not shown, and LangChain's example takes it from where it is", () => {
  const url = "redis://u:secret@h:6379/2";
  const screen = startScreen({ ...common, redis: { url, directory: null }, auth: "none", listedOnly: false });
  expect(screen).not.toContain("secret");
  expect(screen).toContain("config: { url: process.env.REDIS_URL }");
});

test.each(["none", "jwt"] as const)(
  "where no URL names Redis, AUTH=%s: the live example is JSON to a shell",
  async (auth) => {
    const screen = startScreen({ ...common, redis: { described: "a cluster" }, auth, listedOnly: false });
    const live = examplesOf(screen).at(-1) ?? "";
    expect(live).toMatch(/^curl -N http:\/\/h:1\/graphql .*accept: text\/event-stream/);
    const [, body = ""] = /-d ('.*')$/s.exec(live) ?? [];
    const said = await paste(`SESSION=jim:1; printf %s ${body}`);
    expect(JSON.parse(said)).toEqual(
      auth === "none"
        ? { query: `subscription { messageAdded(sessionId: "jim", after: "") { role text } }` }
        : {
            query: `subscription ($id: String!) { messageAdded(sessionId: $id, after: "") { role text } }`,
            variables: { id: "jim:1" },
          },
    );
  },
);
