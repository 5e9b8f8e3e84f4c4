import fc from "fast-check";

/** How many cursors a client remembers of a session. */
export const trackedCursors = 8;

/** Mostly the same one: what is rare happens in a session that much has happened in. */
const session = fc.constantFrom(0, 0, 0, 1);
/** Whose process: two that live, and one whose leases have run out as soon as they begin. */
const by = fc.constantFrom(0, 0, 0, 1, 2);
/** Which turn: 0 the one that is going, 1 the one that waits, the others as they began, newest first. */
const recent = fc.constantFrom(0, 0, 0, 1, 2, 3, 4, 5);
const cursor = fc.option(fc.nat({ max: trackedCursors - 1 }), { freq: 2 });
const chosenOp = fc.option(fc.nat({ max: 2 }), { freq: 1 });
const fingerprint = fc.constantFrom("f", "f", "g");
const ttl = fc.constantFrom(null, 1000, 5000);

/** Mostly those that leave what was there: after a loss little is left to happen to. */
const foreignChanges = [
  ...["human", "human", "human", "ai", "ai", "garbage", "expire", "persist"],
  ...["del", "pop", "trim", "rpush", "swap"],
];

/** Any one thing that can be done to two sessions, by a gateway or by foreign code. */
export const command = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("begin"),
      session,
      by,
      op: chosenOp,
      fingerprint,
      regenerates: fc.nat({ max: 3 }).map((n) => n === 0),
      cursor,
      whenBusy: fc.constantFrom("QUEUE", "QUEUE", "REJECT", "INTERRUPT"),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("chat"), session, remake: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("again"), turn: fc.nat({ max: 3 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("progress"),
      turn: recent,
      by,
      stale: fc.nat({ max: 3 }).map((n) => n === 0),
    }),
  },
  { weight: 7, arbitrary: fc.record({ kind: fc.constant("finish"), turn: recent, failed: fc.nat({ max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("cancel"), session, turn: recent }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("attend"), session, by, takeAny: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("append"),
      session,
      op: fc.constantFrom(null, null, null, 0, 1),
      fingerprint,
      own: fc.subarray([0, 1, 2, null], { minLength: 1 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("create"), session, op: chosenOp, fingerprint, ttl }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("update"),
      session,
      title: fc.option(fc.constantFrom("T", "U"), { nil: null }),
      archived: fc.boolean(),
      ttl: fc.option(ttl, { nil: undefined }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("markRead"), session, cursor }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear"), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove"), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fork"), session, op: chosenOp, fingerprint, cursor }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("foreign"),
      session,
      what: fc.constantFrom(...foreignChanges),
      // Not looked at right after: then the next command is the one that meets it.
      quiet: fc.boolean(),
    }),
  },
);
export type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;
