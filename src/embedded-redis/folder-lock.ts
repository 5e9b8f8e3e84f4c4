import { randomUUID } from "node:crypto";
import { link, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { processIdentity } from "./liveness.ts";

/**
 * A lock on a folder between processes of one machine that a SIGKILLed holder does not leave stuck.
 *
 * Node has no flock, and removing a dead holder's file is a race: two who both saw it dead may each remove a file, the
 * second one that of the first. So nobody removes the newest: lock files are numbered, the lock belongs to the process that made the
 * one with the highest number, and the next number may be made once its maker is dead or has emptied it. A file is made
 * whole, by a hard link, which fails where the number is taken; a process that has made one looks again, since all that it saw may
 * have been removed meanwhile, and yields to a higher one.
 */

/** Longer than anything done under the lock takes: unpacking a server, loading a large append-only file. */
const waitLimitMs = 15 * 60_000;
const pollMs = 25;

/** Runs `work` while no other process (and no other call in this one) is in the same folder's lock. */
export async function withFolderLock<T>(directory: string, work: () => Promise<T>): Promise<T> {
  const own = await acquire(directory);
  try {
    return await work();
  } finally {
    await truncate(join(directory, fileName(own))).catch((error: unknown) => {
      // The folder was removed meanwhile, and the lock with it.
      if (!hasCode(error, "ENOENT")) throw error;
    });
  }
}

const prefix = "lock.";

function fileName(number: number): string {
  return `${prefix}${number}`;
}

async function acquire(directory: string): Promise<number> {
  const deadline = Date.now() + waitLimitMs;
  for (;;) {
    const newest = Math.max(0, ...(await numbers(directory)));
    const holder = newest === 0 ? null : await livingHolder(join(directory, fileName(newest)));
    if (holder !== null) {
      if (Date.now() > deadline) throw new Error(`Process ${holder} has held the lock of ${directory} for too long.`);
      await sleep(pollMs);
      continue;
    }
    const own = newest + 1;
    if (!(await makeFile(directory, own))) continue;
    const all = await numbers(directory);
    const won = Math.max(...all) === own;
    await remove(directory, won ? all.filter((number) => number < own) : [own]);
    if (won) return own;
  }
}

async function numbers(directory: string): Promise<number[]> {
  const names = (await readdir(directory)).filter((name) => name.startsWith(prefix));
  return names.map((name) => Number(name.slice(prefix.length))).filter(Number.isSafeInteger);
}

/** The id of the process that holds by this file, or null if it is dead or done. */
async function livingHolder(file: string): Promise<number | null> {
  // Gone: a holder of a higher number has cleaned up; the caller finds it when it looks again.
  const content = await readFile(file, "utf8").catch(() => "");
  if (content === "") return null;
  try {
    const parsed: unknown = JSON.parse(content);
    if (typeof parsed !== "object" || parsed === null || !("processId" in parsed) || !("identity" in parsed))
      return null;
    const processId = Number(parsed.processId);
    const identity = await processIdentity(processId);
    return identity !== null && identity === parsed.identity ? processId : null;
  } catch {
    return null;
  }
}

async function makeFile(directory: string, number: number): Promise<boolean> {
  const draft = join(directory, `draft-${randomUUID()}`);
  const identity = await processIdentity(process.pid);
  await writeFile(draft, JSON.stringify({ processId: process.pid, identity }), { mode: 0o600 });
  try {
    await link(draft, join(directory, fileName(number)));
    return true;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

async function remove(directory: string, old: readonly number[]): Promise<void> {
  for (const number of old) await rm(join(directory, fileName(number)), { force: true });
}
