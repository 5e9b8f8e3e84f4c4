import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { waitUntil } from "./redis-command.ts";

/** "take" asks for what was seen since the last time. */
export type WitnessOrder = "take" | "leave";

/** What a client that does no harm saw. */
export interface Testimony {
  readonly requests: number;
  readonly medianMs: number;
  readonly p99Ms: number;
  /** Whatever was not answered as it should be. */
  readonly problems: readonly string[];
  /** Messages that its subscription has brought so far. */
  readonly heard: number;
  /** Each of them once, in the order in which they were written, and none is missing. */
  readonly inOrder: boolean;
}

/** A client of a gateway that goes on as usual while others attack it. */
export interface Witness {
  /**
   * Fails where the client was not served all along, or was served out of proportion later than when all was quiet: before
   * the first attack.
   */
  servedDuring(attack: () => Promise<unknown>): Promise<void>;
  leave(): Promise<void>;
}

/**
 * How often as late an answer may come as the latest of the quiet time. Wide, since the attackers share the cores of the test
 * machine with the gateway; one that is held up answers thousands of times as late, or not at all.
 */
const slack = 150;
const quietMs = 1500;
/** Also what is refused at once is looked at for so long. */
const leastMs = 500;

/** `url`: of /graphql, on this machine. Resolves when its subscription stands. */
export async function startWitness(url: string, sessionId: string): Promise<Witness> {
  const child = fork(fileURLToPath(new URL("witness-process.ts", import.meta.url)), [url, sessionId], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const failed = once(child, "exit").then(([code]) => {
    throw new Error(`The witness ended with ${String(code)}`);
  });
  failed.catch(() => undefined);
  const told = () => Promise.race([once(child, "message").then(([message]) => message as unknown), failed]);
  await told();
  const take = async (): Promise<Testimony> => {
    const answer = told();
    child.send("take" satisfies WitnessOrder);
    return (await answer) as Testimony; // what the program above sends
  };
  /** What it has asked for by now is answered: on a busy machine its process may not have had a turn yet. */
  const takeServed = async (): Promise<Testimony> => {
    let testimony = await take();
    await waitUntil("it is served", async () => {
      if (testimony.requests === 0 && testimony.problems.length === 0) testimony = await take();
      return testimony.requests > 0 || testimony.problems.length > 0;
    });
    return testimony;
  };
  let quiet: Promise<Testimony> | undefined;
  const whileQuiet = async (): Promise<Testimony> => {
    await new Promise((resolve) => setTimeout(resolve, quietMs));
    return await takeServed();
  };
  return {
    async servedDuring(attack) {
      await take();
      const before = await (quiet ??= whileQuiet());
      await Promise.all([attack(), new Promise((resolve) => setTimeout(resolve, leastMs))]);
      const during = await takeServed();
      for (const { problems, requests, inOrder } of [before, during]) {
        expect(problems).toEqual([]);
        expect(requests).toBeGreaterThan(0);
        expect(inOrder).toBe(true);
      }
      // The worst of a hundred answers says little: twenty times the usual one is no more than that.
      expect(during.p99Ms / Math.max(before.p99Ms, 20 * before.medianMs)).toBeLessThan(slack);
    },
    async leave() {
      child.send("leave" satisfies WitnessOrder);
      await failed.catch(() => undefined);
    },
  };
}
