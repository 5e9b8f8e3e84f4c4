import { describe, expect, it } from "vitest";

import {
  isMessageId,
  joinLocal,
  localMessageId,
  markOf,
  namedLocalId,
  parseLocalId,
  placeLocalId,
  sessionTag,
  splitLocal,
  timeOfUuidv7,
  uuidv7,
} from "../../src/conversation/message/ids.ts";
import { decodeStoredMessage } from "../../src/conversation/message/stored-message.ts";

const zeros = (n: number): Uint8Array => new Uint8Array(n);
const ones = (n: number): Uint8Array => new Uint8Array(n).fill(0xff);

describe("uuidv7", () => {
  it("has the layout of RFC 9562", () => {
    expect(uuidv7(0x0123456789ab, zeros)).toBe("01234567-89ab-7000-8000-000000000000");
    expect(uuidv7(0x0123456789ac, ones)).toBe("01234567-89ac-77ff-bfff-ffffffffffff");
  });

  it("ascends within a millisecond, also when its counter runs over into the next", () => {
    const now = 1_800_000_000_000;
    const ids = Array.from({ length: 6000 }, () => uuidv7(now));
    ids.push(...Array.from({ length: 3 }, () => uuidv7(now + 1)));
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.toSorted()).toEqual(ids);
    expect(timeOfUuidv7(ids[0] ?? "")).toBe(now);
    expect(timeOfUuidv7(ids.at(-1) ?? "")).toBeGreaterThan(now);
  });

  it("follows a clock that was set back", () => {
    expect(timeOfUuidv7(uuidv7(1_900_000_000_000))).toBe(1_900_000_000_000);
    expect(timeOfUuidv7(uuidv7(1_700_000_000_000))).toBe(1_700_000_000_000);
  });

  it.each([
    ["", null],
    ["m1", null],
    ["f47ac10b-58cc-4372-a567-0e02b2c3d479", null],
    ["017f22e2-79b0-7cc3-c8c4-dc0c0c07398f", null],
    [" 017f22e2-79b0-7cc3-98c4-dc0c0c07398f", null],
    ["017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 1_645_557_742_000],
    ["017F22E2-79B0-7CC3-98C4-DC0C0C07398F", 1_645_557_742_000],
  ])("the time of %j is %j", (id, time) => {
    expect(timeOfUuidv7(id)).toBe(time);
  });
});

it("marks and tags are the first digits of SHA-1, as redis.sha1hex gives them", () => {
  expect(markOf("abc")).toBe("a9993e364706816a");
  expect(sessionTag("abc")).toBe("a9993e36");
  expect(markOf("é")).toBe("bf15be717ac1b080");
});

it.each([
  ["a", true],
  ["A-z_0.9", true],
  ["x".repeat(128), true],
  ["", false],
  ["x".repeat(129), false],
  ["a:b", false],
  ["~a", false],
  ["a\n", false],
  ["é", false],
])("isMessageId(%j) is %j", (text, expected) => {
  expect(isMessageId(text)).toBe(expected);
});

describe("local ids", () => {
  const mark = "0123456789abcdef";

  it("read back as what they were made from", () => {
    expect(parseLocalId("m.1")).toEqual({ kind: "chosen", messageId: "m.1" });
    expect(namedLocalId(46655, "m.1")).toBe("~zzz~m.1");
    expect(parseLocalId("~zzz~m.1")).toEqual({ kind: "named", hint: 46655, messageId: "m.1" });
    expect(placeLocalId(36, mark)).toBe(`~@10~${mark}`);
    expect(parseLocalId(`~@10~${mark}`)).toEqual({ kind: "place", position: 36, mark });
  });

  it.each([
    "",
    "~",
    "~~m",
    "~01~m",
    "~Z~m",
    "~1~",
    "~1~a~b",
    "~1~a:b",
    "~-1~m",
    "~zzzzzzzzzzz~m",
    `~@~${mark}`,
    `~@1~${mark}0`,
    "~@1~0123456789ABCDEF",
    `~@01~${mark}`,
    "~1~m\n",
  ])("%j is none", (local) => {
    expect(parseLocalId(local)).toBeNull();
  });

  const historyKey = "u1:chat";
  const row = (id: string, hint: number | null, session = sessionTag(historyKey), position = 7): string =>
    JSON.stringify({
      type: "human",
      data: { content: "x", id, response_metadata: { parley: { session, run: null, hint, position } } },
    });

  it.each([
    ["the caller's id", row("m1", null), "m1"],
    ["the gateway's id", row("m1", 6), "~6~m1"],
    ["a copy in another session", row("m1", null, sessionTag("other")), null],
    ["a copy at another place", row("m1", 6, sessionTag(historyKey), 6), null],
    ["an id that is none of ours", row("a:b", null), null],
    ["a foreign row", '{"type":"human","data":{"content":"x","id":"m1"}}', null],
    ["no message", "junk", null],
  ])("%s", (_case, raw, expected) => {
    const local = localMessageId(historyKey, { position: 7, mark: markOf(raw), raw }, decodeStoredMessage(raw));
    expect(local).toBe(expected ?? `~@7~${markOf(raw)}`);
  });

  it("split at the last colon", () => {
    expect(splitLocal(joinLocal("user:1:a", "~6~m1"))).toEqual({ sessionId: "user:1:a", local: "~6~m1" });
    expect(splitLocal("nothing")).toBeNull();
    expect(splitLocal("user:")).toBeNull();
  });
});
