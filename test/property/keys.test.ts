import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { historyKeyProblem } from "../../src/conversation/conversations/access.ts";
import { hashTag, sessionKeys, sharedKeys, slotOf } from "../../src/redis/store/keys.ts";
import { checkProperty } from "../support/store/property.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

/** Keys as Redis Cluster reads them, full of braces and of what the gateway's own keys are made of. */
const pieces = ["{", "}", "{}", "}{", "a", "b", "u", ":", "parley:", "session", "runs", "é", "😀", " ", "staging-1"];
const key = fc
  .oneof(
    fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 8 }).map((parts) => parts.join("")),
    fc.stringMatching(/^[{}ab:]{1,6}$/),
    fc.string({ minLength: 1, maxLength: 24, unit: "grapheme" }),
  )
  .filter((text) => historyKeyProblem(text) === null);

/** Redis' own answer: a server that takes itself for a cluster's node tells slots without being in one. */
let server: TestRedis;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false, args: ["--cluster-enabled", "yes"] });
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

function slotsOf(keys: readonly string[]): Promise<readonly unknown[]> {
  return Promise.all(keys.map((one) => redis.cluster("KEYSLOT", one)));
}

const known = [
  "a",
  "a}b",
  "{}x",
  "{u}a",
  "{u}b",
  "{",
  "}",
  "}{",
  "{}",
  "{{",
  "{{}}",
  "{{a}}",
  "a{b}c{d}",
  "{a",
  "a}",
  "{}{a}",
];

describe("a session's keys", () => {
  const check = async (history: string): Promise<void> => {
    const { all, staging } = sessionKeys(history);
    const keys = [...all, staging("1")];
    const slots = await slotsOf(keys);
    expect(slots).toEqual(keys.map(() => slotOf(history)));
    // A plain tag where there can be one: it is what one looks for in Redis by hand.
    if (!/[{}]/.test(history)) expect(hashTag(history)).toBe(history);
  };

  it.each(known)("share a slot with the history %s", check);
  it("share a slot with the history, whatever braces it has", async () => {
    await checkProperty(fc.asyncProperty(key, check), { runs: 500 });
  });

  const apart = (a: string, b: string): void => {
    fc.pre(a !== b);
    const ofA = [...sessionKeys(a).all, sessionKeys(a).staging("1")];
    const ofB = [...sessionKeys(b).all, sessionKeys(b).staging("1")];
    expect(new Set([...ofA, ...ofB]).size).toBe(ofA.length + ofB.length);
  };

  it("are nobody else's", async () => {
    for (const a of known) for (const b of known) if (a !== b) apart(a, b);
    await checkProperty(fc.property(key, key, apart), { runs: 1000 });
    // Two that differ in one place only, where the likeness is greatest.
    await checkProperty(
      fc.property(key, key, fc.constantFrom(...pieces), (a, b, piece) => apart(a + b, a + piece + b)),
      { runs: 1000 },
    );
  });

  it("are distinct from each other and from those that sessions share, and begin with parley:", async () => {
    await checkProperty(
      fc.property(key, fc.string(), (history, owner) => {
        const { all, history: same, session, events } = sessionKeys(history);
        expect([all[0], all[1], all.at(-1)]).toEqual([same, session, events]);
        const { due, expiries, sessions, list } = sharedKeys("");
        expect(new Set([...all, due, expiries, sessions(owner), list(owner)]).size).toBe(all.length + 4);
        for (const own of all.slice(1)) expect(historyKeyProblem(own)).not.toBeNull();
        expect(same).toBe(history);
      }),
    );
  });
});

describe("what the sessions of a prefix share", () => {
  const prefix = fc.oneof(
    fc.constantFrom("", "@", ":", "a", "a:", "a:b", "@a", "%40", "sessions", "{a}"),
    fc.array(fc.constantFrom(...pieces, "@", "%"), { maxLength: 4 }).map((parts) => parts.join("")),
    fc.string({ maxLength: 12 }),
  );
  const namesOf = (one: string, owner: string): readonly string[] => {
    const { due, expiries, sessions, list } = sharedKeys(one);
    return [due, expiries, sessions(owner), list(owner)];
  };

  it("is nobody else's, whatever the prefix and the owner are called", async () => {
    await checkProperty(
      fc.property(prefix, prefix, prefix, prefix, (a, ownerOfA, b, ownerOfB) => {
        fc.pre(a !== b || ownerOfA !== ownerOfB);
        const shared = a === b ? 2 : 0;
        expect(new Set([...namesOf(a, ownerOfA), ...namesOf(b, ownerOfB)]).size).toBe(8 - shared);
      }),
      { runs: 2000 },
    );
  });

  it("has the names of ever without a prefix, and lies in no slot that a prefix chooses", () => {
    expect(namesOf("", "jim")).toEqual(["parley:due", "parley:expiries", "parley:sessions:jim", "parley:list:jim"]);
    for (const name of namesOf("{a}:b", "jim"))
      expect([/[{}]/.test(name), name.split(":").length < 4]).toEqual([false, true]);
    for (const name of namesOf("a:b", "{u}")) expect(historyKeyProblem(name)).not.toBeNull();
  });
});

describe("a history key", () => {
  it.each([
    ["", "empty"],
    ["parley:", "parley:"],
    ["parley:due", "parley:"],
    ["parley:{a}:session:a", "parley:"],
    ["a\u0000b", "control"],
    ["a\nb", "control"],
    ["a\u0085b", "control"],
    ["\u2028", "control"],
    ["\ud800", "well-formed"],
    ["x".repeat(513), "512"],
    ["é".repeat(257), "512"],
  ])("%j is refused", (history, why) => {
    expect(historyKeyProblem(history)).toContain(why);
  });

  it.each(["x".repeat(512), "é".repeat(256), "Parley:", " parley:", "a:b{c}", "message_store:1", "parley"])(
    "%j is taken",
    (history) => {
      expect(historyKeyProblem(history)).toBeNull();
    },
  );
});
