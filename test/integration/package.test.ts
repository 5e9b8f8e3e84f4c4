import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { execute } from "../support/gateway/graphql-client.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

// What is published, as who installs it has it: packed, unpacked into an empty folder, with nothing but the dependencies
// that it declares beside it. (They are links to this checkout's: CI has no registry, and npm's cache may lack them.)

const root = fileURLToPath(new URL("../../", import.meta.url));

/** @tsconfig/strictest, whose file has a skipLibCheck of its own. */
const { compilerOptions: strictest } = JSON.parse(
  readFileSync(join(root, "node_modules/@tsconfig/strictest/tsconfig.json"), "utf8"),
) as { compilerOptions: object };

interface Manifest {
  readonly bin: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

let app: string;
let files: readonly string[];
let packedBytes: number;
let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
  const folder = await temporaryDirectory();
  // Packed from a copy: the build of `npm pack` would write into a dist/ that somebody uses.
  const source = join(folder, "source");
  mkdirSync(source);
  // As at a checkout without .git: what packs it knows the files from package.json alone.
  const own = readdirSync(root).filter(
    (name) => !["node_modules", "dist", ".git", ".parley", "coverage"].includes(name),
  );
  for (const name of own) cpSync(join(root, name), join(source, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(source, "node_modules"));
  execFileSync("npm", ["pack", "--pack-destination", folder, "--loglevel=error"], { cwd: source, stdio: "pipe" });
  const [tarball = ""] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  packedBytes = statSync(join(folder, tarball)).size;

  app = join(folder, "app");
  const installed = join(app, "node_modules", "parley-gateway");
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, tarball), "-C", installed, "--strip-components=1"]);
  files = readdirSync(installed, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(installed, name)).isFile())
    .sort();
  const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Manifest; // ours
  for (const name of Object.keys(dependencies)) link(name, join(installed, "node_modules"));
  for (const name of ["@types/node", "@langchain/langgraph-checkpoint"]) link(name, join(app, "node_modules"));
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
});
afterAll(() => redis.stop());

function link(name: string, into: string): void {
  mkdirSync(dirname(join(into, name)), { recursive: true });
  symlinkSync(join(root, "node_modules", name), join(into, name));
}

/** Its environment is what is given, and what a program needs to be found. */
function environment(env: Readonly<Record<string, string>>): Record<string, string> {
  const { PATH = "", HOME = "" } = process.env;
  return { PATH, HOME, ...env };
}

test("the tarball holds the built code, the docs and the files for operators, and nothing else", () => {
  const [expected, others] = [new Set<string>(), [] as string[]];
  for (const file of files) {
    if (
      /^dist\/.*\.(js|d\.ts|lua)$/.test(file) ||
      /^(ops\/[^/]+\.(json|ya?ml)|docs\/(?:clients\/)?[^/]+\.md)$/.test(file)
    )
      expected.add(dirname(file));
    else others.push(file);
  }
  expect(others).toEqual([
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "bin/parley.js",
    "dist/console/console.html",
    "package.json",
    "schema.graphql",
  ]);
  expect([...expected]).toEqual(
    expect.arrayContaining(["dist", "dist/redis/scripts/turn", "dist/graphql", "docs", "ops"]),
  );
  expect(files).toEqual(expect.arrayContaining(["ops/grafana-dashboard.json", "ops/alerts.yml"]));
  // Each script for Redis that the sources have.
  const scripts = readdirSync(join(root, "src/redis/scripts"), { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".lua"),
  );
  expect(files).toEqual(expect.arrayContaining(scripts.map((path) => `dist/redis/scripts/${path}`)));
  expect(files.filter((file) => file.startsWith("packages/"))).toEqual([]);
  expect(packedBytes).toBeLessThan(700_000);
});

test("it runs as a server with its console, on the pinned Node", async () => {
  const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest; // ours
  expect(process.versions.node).toBe(devDependencies["node"]);
  const child = spawn(process.execPath, [join(app, "node_modules/parley-gateway/bin/parley.js")], {
    cwd: app,
    env: environment({ PORT: "0", REDIS_URL: redis.url, MODEL: "offline", NODE_ENV: "production", CONSOLE: "on" }),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const take = (chunk: Buffer) => {
      output += chunk.toString();
      const [found] = /http:\/\/[^\s"]+:\d+/.exec(output) ?? [];
      if (found !== undefined) resolve(`${found}/graphql`);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.once("exit", (code) => reject(new Error(`It ended with ${String(code)}:\n${output}`)));
  });
  try {
    const { sendMessage } = await execute<{ sendMessage: { reply: { text: string } } }>(
      url,
      'mutation { sendMessage(input: { sessionId: "packed", text: "I am Ada." }) { reply { text } } }',
    );
    expect(sendMessage.reply.text).not.toBe("");
    const page = await fetch(new URL("/console", url));
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("<title>Parley console</title>")]);
  } finally {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  expect(child.exitCode).toBe(0);
});

test("an installation does not fail where the console cannot be built, and says what builds it", async () => {
  const folder = await temporaryDirectory();
  cpSync(join(root, "scripts"), join(folder, "scripts"), { recursive: true });
  const { status, stderr } = spawnSync(process.execPath, [join(folder, "scripts/prepare.js")], { encoding: "utf8" });
  expect([status, stderr]).toEqual([0, expect.stringContaining("To build it: npm run build:console")]);
});

// npx runs the command that is called as the package is.
test.each(["parley", "parley-gateway"])("the package brings the command %s", (command) => {
  const installed = join(app, "node_modules/parley-gateway");
  const { bin } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Manifest; // ours
  const version = execFileSync(process.execPath, [join(installed, bin[command] ?? ""), "--version"]);
  expect(version.toString().trim()).toMatch(/^\d+\.\d+\.\d+$/);
});

test("it runs as a library, and each of its modules finds what it imports", () => {
  writeFileSync(
    join(app, "library.mjs"),
    `import { readdirSync } from "node:fs";
import { createGateway, ParleyError, ArchiveError } from "parley-gateway";
import { CheckpointSaver } from "parley-gateway/langgraph";
import manifest from "parley-gateway/package.json" with { type: "json" };

const gateway = await createGateway({
  redis: process.env.REDIS_URL,
  model: "offline",
  tracing: { url: "http://127.0.0.1:9/v1/traces" },
});
const answer = await gateway.fetch(
  new Request("http://localhost/graphql", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: '{ session(sessionId: "packed") { messages { nodes { role text } } } }' }),
  }),
);
const schema = import.meta.resolve("parley-gateway/schema.graphql");
// Also what is loaded only where it is needed.
const dist = new URL("./node_modules/parley-gateway/dist/", import.meta.url);
const modules = readdirSync(dist, { recursive: true }).filter((name) => name.endsWith(".js"));
for (const name of modules) await import(new URL(name, dist));
await gateway.close();
const checkpointer = new CheckpointSaver({ redis: process.env.REDIS_URL });
const thread = await checkpointer.getTuple({ configurable: { thread_id: "none" } });
await checkpointer.close();
console.log(JSON.stringify({
  answer: await answer.json(),
  errors: [ParleyError.name, ArchiveError.name],
  name: manifest.name,
  thread: thread ?? null,
  schema: schema.endsWith("/parley-gateway/schema.graphql"),
  modules: modules.length,
}));
process.exit();
`,
  );
  const output = execFileSync(process.execPath, [join(app, "library.mjs")], {
    cwd: app,
    env: environment({ REDIS_URL: redis.url }),
    encoding: "utf8",
  });
  const { answer, ...rest } = JSON.parse(output) as { answer: unknown; modules: number };
  expect(answer).toMatchObject({
    data: { session: { messages: { nodes: [{ role: "USER", text: "I am Ada." }, {}] } } },
  });
  expect(rest).toMatchObject({
    errors: ["ParleyError", "ArchiveError"],
    name: "parley-gateway",
    thread: null,
    schema: true,
  });
  expect(rest.modules).toBeGreaterThan(100);
});

/**
 * Each looks into the types of what Parley depends on as well, and may say nothing of them: skipLibCheck is off. The entry for
 * LangGraph is a class of LangGraph's, whose own types are not whole with exactOptionalPropertyTypes.
 */
const compilers = {
  "the strictest options": {
    files: ["typed.ts"],
    options: {
      ...strictest,
      ...{ target: "es2024", lib: ["es2024"], module: "nodenext", moduleResolution: "nodenext" },
    },
  },
  "a bundler's options": {
    files: ["typed.ts", "langgraph.ts"],
    options: {
      strict: true,
      ...{ target: "es2022", lib: ["es2022", "dom", "dom.iterable"], module: "esnext", moduleResolution: "bundler" },
    },
  },
};

test.each(Object.entries(compilers))("its types compile in a program with %s", (_name, { files: sources, options }) => {
  writeFileSync(
    join(app, "langgraph.ts"),
    `import { CheckpointSaver } from "parley-gateway/langgraph";
import type { BaseCheckpointSaver } from "@langchain/langgraph-checkpoint";

export const checkpointer: BaseCheckpointSaver = new CheckpointSaver({ redis: { host: "localhost" }, keep: 3 });
// @ts-expect-error a saver has no Redis of its own
new CheckpointSaver({ redis: { embedded: { directory: ".", environment: {} } } });
`,
  );
  writeFileSync(
    join(app, "typed.ts"),
    `import { createGateway, ParleyError } from "parley-gateway";
import type { Gateway, GatewayOptions } from "parley-gateway";

const options: GatewayOptions = { redis: { host: "localhost" }, authenticate: ({ headers }) =>
  headers.get("authorization") === null ? null : { subject: "a", scopes: ["chat:read"] } };
const gateway: Gateway = await createGateway(options);
const { port }: { readonly port: number } = await gateway.listen({ port: 0 });
// @ts-expect-error there is no such option: with types that were not found it would be none
await createGateway({ redis: "redis://localhost", noSuchOption: true });
// @ts-expect-error a number is no URL
await createGateway({ redis: port });
// @ts-expect-error a text is no chat model
await createGateway({ redis: "redis://localhost", customModels: { mine: "gpt" } });
export const code: string = new ParleyError("NOT_FOUND", "x").code;
`,
  );
  const compilerOptions = { ...options, noEmit: true, skipLibCheck: false, types: ["node"] };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: sources }));
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  const { stdout, stderr } = spawnSync(process.execPath, [compiler, "-p", app], { encoding: "utf8" });
  expect([stdout, stderr]).toEqual(["", ""]);
});
