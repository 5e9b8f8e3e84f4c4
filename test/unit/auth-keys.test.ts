import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { makeKey, newKeyProblem } from "../../src/cli/api-keys.ts";
import { parseKeyFile } from "../../src/transport/auth/key-file.ts";
import { keyVerifier } from "../../src/transport/auth/api-keys.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

let directory = "";
let files = 0;
const newFile = () => join(directory, `keys-${(files += 1)}.jsonl`);
const jim = { subject: "jim", scopes: [], sessions: [], models: [] };

beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function verifier(file: string) {
  const problems: string[] = [];
  const verify = keyVerifier(file, (problem) => problems.push(problem));
  const codeOf = (key: string) =>
    verify(key).then(
      () => "let in",
      (error: unknown) => (error instanceof Error && "code" in error ? error.code : error),
    );
  return { verify, codeOf, problems };
}

test("a key signs its subject in, and the file does not contain the key", async () => {
  const file = newFile();
  const key = await makeKey(file, jim);
  const team = await makeKey(file, { subject: "ann", scopes: ["admin"], sessions: ["team-*"], models: ["agent:*"] });
  expect(key).toMatch(/^parley_[A-Za-z0-9_-]{43}$/);
  const text = await readFile(file, "utf8");
  for (const secret of [key, key.slice("parley_".length), team]) expect(text).not.toContain(secret);
  expect((await stat(file)).mode & 0o077).toBe(0);

  const { verify, codeOf } = verifier(file);
  expect(await verify(key)).toEqual({
    viewer: { subject: "jim", scopes: ["chat:read", "chat:write"], sessions: ["jim:*"], granted: false, models: null },
    expiresAt: null,
    revocation: { revoked: false, onRevoked: expect.any(Function) as unknown },
  });
  expect((await verify(team)).viewer).toEqual({
    subject: "ann",
    scopes: ["admin"],
    sessions: ["team-*"],
    granted: true,
    models: ["agent:*"],
  });
  const hash = parseKeyFile(text).entries[0]?.sha256 ?? "";
  for (const wrong of ["", "parley_", key.slice(0, -1), `${key}A`, key.toLowerCase(), hash]) {
    expect(await codeOf(wrong)).toBe("UNAUTHENTICATED");
  }
});

test("changes of the file take effect at once", async () => {
  const file = newFile();
  const { codeOf, problems } = verifier(file);
  expect(await codeOf("parley_x")).toBe("UNAUTHENTICATED");
  expect(problems).toEqual(["ENOENT"]);
  const first = await makeKey(file, jim);
  expect(await codeOf(first)).toBe("let in");
  const second = await makeKey(file, { ...jim, subject: "ann" });
  expect(await codeOf(second)).toBe("let in");
  // Taken out as editors do it: a new file in the old one's place.
  const [, line = ""] = (await readFile(file, "utf8")).split("\n");
  await writeFile(`${file}.new`, line);
  await rename(`${file}.new`, file);
  expect(await codeOf(first)).toBe("UNAUTHENTICATED");
  expect(await codeOf(second)).toBe("let in");
  // The last line had lost its end: a key that is added stands on a line of its own.
  expect(await codeOf(await makeKey(file, jim))).toBe("let in");
  await rm(file);
  // Told once, however many ask, and once more when it is gone again.
  for (let i = 0; i < 5; i += 1) expect(await codeOf(second)).toBe("UNAUTHENTICATED");
  expect(problems).toEqual(["ENOENT", "ENOENT"]);
});

describe("a wrong line signs nobody in, and the other lines still count", () => {
  const sha256 = "0".repeat(64);
  test.each([
    ["{", "is no JSON object"],
    ["[]", "is no JSON object"],
    [JSON.stringify({ scopes: [], sha256 }), "has no subject"],
    [JSON.stringify({ subject: "*", scopes: [], sha256 }), 'its subject must not hold "*"'],
    [
      JSON.stringify({ subject: "anonymous", scopes: [], sha256 }),
      'its subject must not be "anonymous", the owner of what was made without authentication',
    ],
    [JSON.stringify({ subject: "jim", sha256 }), "its scopes are no list of names"],
    [JSON.stringify({ subject: "jim", scopes: "admin", sha256 }), "its scopes are no list of names"],
    [JSON.stringify({ subject: "jim", scopes: [], sessions: "*", sha256 }), "its sessions are no list of patterns"],
    [JSON.stringify({ subject: "jim", scopes: [], models: "*", sha256 }), "its models are no list of patterns"],
    [
      JSON.stringify({ subject: "jim", scopes: [], models: [""], sha256 }),
      "its models must be patterns of 1 to 512 characters",
    ],
    [JSON.stringify({ subject: "jim", scopes: [], sha256: "0" }), "its sha256 is no hash in hexadecimal"],
    [JSON.stringify({ subject: "jim", scopes: [], key: "parley_plain" }), "its sha256 is no hash in hexadecimal"],
  ])("%s", async (line, problem) => {
    expect(parseKeyFile(`# mine\n\n${line}\n`)).toEqual({ entries: [], problems: [`line 3: ${problem}`] });
    const file = newFile();
    await writeFile(file, `${line}\n`);
    const key = await makeKey(file, jim);
    const { codeOf, problems } = verifier(file);
    expect(await codeOf(key)).toBe("let in");
    expect(problems).toEqual([`line 1: ${problem}`]);
  });
});

test("parley keys add refuses a subject, scopes or patterns that no key can have", () => {
  expect(newKeyProblem(jim)).toBeNull();
  expect(newKeyProblem({ ...jim, scopes: ["chat:delete"] })).toBe(
    "There is no scope chat:delete. There are chat:read, chat:write, admin.",
  );
  expect(newKeyProblem({ ...jim, subject: "*" })).toBe('--subject must not hold "*".');
  expect(newKeyProblem({ ...jim, subject: "anonymous" })).toMatch(/^--subject must not be "anonymous"/);
  expect(newKeyProblem({ ...jim, sessions: [""] })).toBe("--sessions must be patterns of 1 to 512 characters.");
  expect(newKeyProblem({ ...jim, models: [""] })).toBe("--models must be patterns of 1 to 512 characters.");
});
