import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MODEL_PROVIDER_CONFIG } from "langchain/chat_models/universal";
import { afterAll, beforeAll, expect, test } from "vitest";
import { modelProviders } from "../../src/config/forms.ts";
import { variables } from "../../src/config/load.ts";
import { FolderError, openFolder } from "../../src/embedded-redis/folder.ts";
import { makeCertificates, type TestCertificates } from "../support/redis/certificates.ts";
import { runParley } from "../support/gateway/parley-command.ts";
import { command } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

// What is wrong with the configuration or the command line is told before anything is started: exit code 2.

let open: TestRedis;
let guarded: TestRedis;
let files: TestCertificates;
let folder = "";

beforeAll(async () => {
  files = await makeCertificates();
  [open, guarded] = await Promise.all([startRedis(), startRedis()]);
  await command(guarded, "CONFIG", "SET", "requirepass", "right");
  folder = await temporaryDirectory();
  await writeFile(join(folder, "text"), "no file of the form that is needed");
});
afterAll(() => Promise.all([open.stop(), guarded.stop()]));

const refused = "is refused: the user or the password is wrong, or missing";
const noCertificate = "holds no certificate in PEM form";

interface Mistake {
  readonly what: string;
  readonly env: () => Readonly<Record<string, string>>;
  readonly told: readonly string[];
}

const mistakes: readonly Mistake[] = [
  {
    what: "a prefix that makes keys of Parley's own",
    env: () => ({ HISTORY_KEY_PREFIX: "parley:x" }),
    told: [`HISTORY_KEY_PREFIX: must not begin with "parley:", as Parley's own keys do`],
  },
  {
    what: "a provider that LangChain does not know",
    env: () => ({ MODEL: "opanai:gpt-4o", MODELS: "offline,foo:bar" }),
    told: ['MODEL: must be "provider:name"', 'MODELS: each must be "provider:name"'],
  },
  {
    what: "a password that is wrong",
    env: () => ({ REDIS_URL: guarded.url.replace("redis://", "redis://:wrong@") }),
    told: [`REDIS_URL: ${refused}`],
  },
  { what: "a password that is missing", env: () => ({ REDIS_URL: guarded.url }), told: [`REDIS_URL: ${refused}`] },
  {
    what: "a Sentinel that wants a password",
    env: () => ({ REDIS_SENTINELS: `127.0.0.1:${guarded.port}` }),
    told: [`REDIS_SENTINEL_PASSWORD: ${refused}`],
  },
  {
    what: "a Sentinel that is none",
    env: () => ({ REDIS_SENTINELS: `127.0.0.1:${open.port}` }),
    told: ["REDIS_SENTINELS: names a server that is no Sentinel"],
  },
  {
    what: "a cluster's password that is wrong",
    env: () => ({ REDIS_CLUSTER_NODES: `127.0.0.1:${guarded.port}`, REDIS_PASSWORD: "wrong" }),
    told: [`REDIS_PASSWORD: ${refused}`],
  },
  {
    what: "a database that is not there",
    env: () => ({ REDIS_URL: `redis://127.0.0.1:${open.port}/99` }),
    told: ["REDIS_URL: names a database that the server does not have"],
  },
  {
    what: "files that are not there, and a number, all at once",
    env: () => ({
      ...{ REDIS_URL: open.url, PORT: "x", HISTORY_KEY_PREFIX: "chat:", AUTH: "keys", AUTH_KEYS_FILE: "none" },
      ...{ REDIS_TLS_CA_FILE: "none", REDIS_TLS_CERT_FILE: "none", REDIS_TLS_KEY_FILE: "none" },
      PERSISTED_OPERATIONS_FILE: "none",
    }),
    told: [
      "PORT: must be a whole number from 0 to 65535",
      "AUTH_KEYS_FILE: cannot be read (ENOENT). parley keys add --subject NAME makes it",
      ...["CA", "CERT", "KEY"].map((name) => `REDIS_TLS_${name}_FILE: cannot be read (ENOENT)`),
      "PERSISTED_OPERATIONS_FILE: cannot be read (ENOENT)",
    ],
  },
  {
    what: "files of another form",
    env: () => ({
      ...{ REDIS_TLS_CA_FILE: join(folder, "text"), REDIS_TLS_CERT_FILE: join(folder, "text") },
      ...{ REDIS_TLS_KEY_FILE: files.clientKeyFile, PERSISTED_OPERATIONS_FILE: join(folder, "text") },
    }),
    told: [
      `REDIS_TLS_CA_FILE: ${noCertificate}`,
      `REDIS_TLS_CERT_FILE: ${noCertificate}`,
      "PERSISTED_OPERATIONS_FILE: is no JSON",
    ],
  },
  {
    // The second is told first by what looks at the files.
    what: "a file of another form, and one that is not there: in the order of the settings",
    env: () => ({ REDIS_TLS_CA_FILE: join(folder, "text"), REDIS_TLS_CERT_FILE: "none", REDIS_TLS_KEY_FILE: "none" }),
    told: [
      `REDIS_TLS_CA_FILE: ${noCertificate}`,
      ...["CERT", "KEY"].map((name) => `REDIS_TLS_${name}_FILE: cannot be read (ENOENT)`),
    ],
  },
  {
    what: "the key of another certificate",
    env: () => ({ REDIS_TLS_CERT_FILE: files.clientCertFile, REDIS_TLS_KEY_FILE: files.keyFile }),
    told: ["REDIS_TLS_KEY_FILE: is not the key of the certificate"],
  },
  // Node's own mkdir never comes back from here.
  { what: "a folder in /proc", env: () => ({ DATA_DIR: "/proc/parley" }), told: ["DATA_DIR: cannot be written ("] },
  {
    what: "a file for a folder",
    env: () => ({ DATA_DIR: join(folder, "text") }),
    told: ["DATA_DIR: cannot be written (File exists)"],
  },
  {
    what: "a folder in a file",
    env: () => ({ DATA_DIR: join(folder, "text", "x") }),
    told: ["DATA_DIR: cannot be written (Not a directory)"],
  },
];

test.each(mistakes)("$what", async ({ env, told }) => {
  const ended = await runParley(folder, [], env());
  expect([ended.code, ended.stdout]).toEqual([2, ""]);
  const lines = ended.stderr.split("\n");
  expect(lines[0]).toBe("The configuration has mistakes:");
  const problems = lines.filter((line) => line.startsWith("  "));
  expect(problems.map((line, i) => line.slice(2, 2 + (told[i]?.length ?? 0)))).toEqual(told);
});

test("a data command also reports a wrong Redis password", async () => {
  const ended = await runParley(folder, ["export"], { REDIS_URL: guarded.url });
  expect([ended.code, ended.stdout]).toEqual([2, ""]);
  expect(ended.stderr).toContain(`REDIS_URL: ${refused}`);
});

test("a folder that does not answer is given up", async () => {
  const slow = join(folder, "slow");
  await mkdir(slow);
  await writeFile(join(slow, "mkdir"), "#!/bin/sh\nexec sleep 600\n");
  await chmod(join(slow, "mkdir"), 0o755);
  const environment = { PATH: `${slow}:${process.env["PATH"] ?? ""}` };
  const opened = openFolder(join(folder, "data"), environment, 300);
  await expect(opened).rejects.toThrow(FolderError);
  await expect(opened).rejects.toThrow("does not answer within 0.3 s");
});

test("the providers that MODEL may name are LangChain's", () => {
  expect([...modelProviders].sort()).toEqual(Object.keys(MODEL_PROVIDER_CONFIG).sort());
});

test.each([
  ["--foo", "Unknown option '--foo'."],
  ["serve", "There is no command serve."],
  ["start start", "One command at a time, not also start."],
  ["--owner a", "--owner and --match belong to parley adopt."],
  ["adopt --owner", "Option '--owner <value>' argument missing."],
  ["adopt --owner -x", "Option '--owner' argument is ambiguous."],
  ["adopt --owner=", "--owner must not be empty."],
  ["adopt --owner a*", 'The new owner must not hold "*".'],
  ["export --owner=", "--owner must not be empty."],
  ["export more", "Unexpected argument 'more'."],
  ["import --owner a*", 'The new owner must not hold "*".'],
  ["give a", "parley give takes two names: the present owner of the sessions, and the new one."],
  ["give a b*", 'The new owner must not hold "*".'],
  ["delete-owner a", 'All sessions of "a" would be deleted for good. Say so with --yes.'],
  [
    "keys remove",
    "The only command for keys is parley keys add. To revoke a key, remove its line from AUTH_KEYS_FILE.",
  ],
  ["keys add", "keys add needs --subject NAME, the owner of the key."],
])("parley %s: one plain line, exit code 2", async (args, message) => {
  const ended = await runParley(folder, args.split(" "), { REDIS_URL: open.url });
  expect(ended).toEqual({ code: 2, stdout: "", stderr: `${message} parley --help tells what there is.\n` });
});

test("parley --help: two spaces are between each variable and its text, however long its name is", async () => {
  const { code, stdout } = await runParley(folder, ["--help"], {});
  expect(code).toBe(0);
  const lines = stdout.split("\n");
  const unlike = variables.filter(({ variable, description }) => {
    return !lines.some((line) => line.startsWith(`  ${variable}  `) && line.includes(`  ${description}`));
  });
  expect(unlike).toEqual([]);
});
