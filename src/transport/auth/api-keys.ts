import { timingSafeEqual } from "node:crypto";
import { stat } from "node:fs/promises";

import { unauthenticated, viewerOf } from "../../conversation/conversations/access.ts";
import { hashOf, readKeyFile } from "./key-file.ts";
import type { KeyEntry } from "./key-file.ts";
import { Revocations } from "./revocations.ts";
import type { VerifyToken } from "./token.ts";

interface HashedEntry extends KeyEntry {
  readonly hash: Buffer;
}

/** How often the file is looked at while a socket or a stream is open that a key of it let in. */
const recheckMs = 2000;
/** An editor may put a new file in the old one's place in two steps. */
const failuresBelieved = 2;

/**
 * API keys against the hashes of a file, which is read again when it has changed: a key that is added lets in at once,
 * one that is taken out no longer, and what it let in before ends within `everyMs`, as does what it let in with other
 * rights than it has now. A file that is gone lets nobody in.
 */
export function keyVerifier(
  path: string,
  onProblem: (problem: string) => void,
  everyMs: number = recheckMs,
): VerifyToken {
  const revocations = new Revocations(everyMs, recheck);
  let failures = 0;
  /** Told already: a file that is gone is one thing to know, however many come with keys meanwhile. */
  let missing: string | null = null;
  let seen: string | null = null;
  let reading: Promise<readonly HashedEntry[]> = Promise.resolve([]);

  async function read(): Promise<readonly HashedEntry[]> {
    const { entries, problems } = await readKeyFile(path);
    for (const problem of problems) onProblem(problem);
    return entries.map((entry) => ({ ...entry, hash: Buffer.from(entry.sha256, "hex") }));
  }

  async function current(): Promise<readonly HashedEntry[]> {
    const { mtimeMs, ctimeMs, size, ino } = await stat(path);
    const state = [mtimeMs, ctimeMs, size, ino].join();
    if (state !== seen) {
      seen = state;
      reading = read();
      reading.catch(() => {
        if (seen === state) seen = null;
      });
    }
    return await reading;
  }

  async function recheck(): Promise<void> {
    try {
      const entries = await current();
      failures = 0;
      const rights = new Map(entries.map((entry) => [entry.sha256, rightsOf(entry)]));
      revocations.keep((sha256) => rights.get(sha256) ?? null);
    } catch {
      // Meanwhile every key is refused, and the log says why.
      if (++failures >= failuresBelieved) revocations.keep(() => null);
    }
  }

  return async (token) => {
    let entries: readonly HashedEntry[] = [];
    try {
      entries = await current();
      missing = null;
    } catch (error) {
      const problem = error instanceof Error && "code" in error ? String(error.code) : "it cannot be read";
      if (problem !== missing) onProblem(problem);
      missing = problem;
    }
    const hash = hashOf(token);
    let found: KeyEntry | null = null;
    // All of them, each in constant time: how long it takes says nothing about which key is nearly right.
    for (const entry of entries) if (timingSafeEqual(entry.hash, hash)) found = entry;
    if (found === null) throw unauthenticated();
    return { viewer: viewerOf(found), expiresAt: null, revocation: revocations.of(found.sha256, rightsOf(found)) };
  };
}

function rightsOf({ subject, scopes, sessions, models }: KeyEntry): string {
  return JSON.stringify([subject, scopes, sessions, models]);
}
