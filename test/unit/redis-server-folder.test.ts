import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { withFolderLock } from "../../src/embedded-redis/folder-lock.ts";
import { parseStat, processIdentity } from "../../src/embedded-redis/liveness.ts";
import { otherMembers } from "../../src/embedded-redis/membership.ts";
import { addressUrl, newPassword, parseAddress } from "../../src/embedded-redis/state-file.ts";

describe("withFolderLock", () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "parley-lock-"));
  });

  afterEach(() => rm(folder, { recursive: true, force: true }));

  test("lets one in at a time, and all in the end", async () => {
    let inside = 0;
    let most = 0;
    let count = 0;
    const work = async (): Promise<void> => {
      inside += 1;
      most = Math.max(most, inside);
      await new Promise((resolve) => setImmediate(resolve));
      count += 1;
      inside -= 1;
    };
    await Promise.all(Array.from({ length: 20 }, () => withFolderLock(folder, work)));
    expect({ most, count, inside }).toEqual({ most: 1, count: 20, inside: 0 });
    // Neither drafts nor old numbers pile up.
    expect(await readdir(folder)).toHaveLength(1);
  });

  test("is released after a failure, and passes the failure on", async () => {
    await expect(withFolderLock(folder, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await withFolderLock(folder, () => Promise.resolve("in"))).toBe("in");
  });

  test.each([
    ["of no process", { processId: 2 ** 22 + 1, identity: "gone" }],
    ["whose id another process has now", { processId: process.pid, identity: "another start" }],
    ["whose holder's identity was unknown", { processId: 2 ** 22 + 1, identity: null }],
    ["that is no JSON", "{"],
  ])("takes over a lock %s", async (_, content) => {
    await writeFile(join(folder, "lock.7"), typeof content === "string" ? content : JSON.stringify(content));
    expect(await withFolderLock(folder, () => readdir(folder))).toEqual(["lock.8"]);
  });

  test("outlives the removal of its folder", async () => {
    expect(
      await withFolderLock(folder, async () => {
        await rm(folder, { recursive: true });
        return "done";
      }),
    ).toBe("done");
  });
});

describe("a process", () => {
  test("has an identity that lasts", async () => {
    const identity = await processIdentity(process.pid);
    expect(identity).toMatch(/\S/);
    expect(await processIdentity(process.pid)).toBe(identity);
  });

  test.each([0, -1, Number.NaN, 2 ** 22 + 1])("%d is none", async (id) => {
    expect(await processIdentity(id)).toBeNull();
  });

  test("may have a name with parentheses and spaces", () => {
    const fields = Array.from({ length: 30 }, (_, index) => String(index + 4));
    expect(parseStat(`12 (a) b) (c) S ${fields.join(" ")}`)).toEqual({ state: "S", startTicks: "22" });
  });
});

describe("the address", () => {
  test("is read as it was written", () => {
    const address = { port: 12_345, password: newPassword() };
    expect(parseAddress(`${addressUrl(address)}\n`)).toEqual(address);
  });

  test.each([
    "",
    "redis://127.0.0.1:6379/0",
    `redis://:${"0".repeat(48)}@example.org:6379/0`,
    `redis://:${"0".repeat(48)}@127.0.0.1:0/0`,
    `redis://:${"0".repeat(48)}@127.0.0.1:70000/0`,
    `redis://:${"0".repeat(47)}@127.0.0.1:6379/0`,
  ])("is not: %s", (text) => {
    expect(parseAddress(text)).toBeNull();
  });
});

test("gateways are counted by the name of their connection, the own one left out", () => {
  const list = [
    "id=3 addr=127.0.0.1:1 laddr=127.0.0.1:2 fd=8 name=parley-gateway age=1 cmd=client|list user=default",
    "id=31 addr=127.0.0.1:3 laddr=127.0.0.1:2 fd=9 name=parley-gateway age=1 cmd=ping user=default",
    "id=5 addr=127.0.0.1:4 laddr=127.0.0.1:2 fd=9 name=parley-gateway-x age=1 cmd=ping user=default",
    "id=6 addr=127.0.0.1:5 laddr=127.0.0.1:2 fd=9 name= age=1 cmd=lpush user=default",
    "",
  ].join("\n");
  expect(otherMembers(list, "3")).toBe(1);
  expect(otherMembers(list, "31")).toBe(1);
  expect(otherMembers(list, "5")).toBe(2);
});
