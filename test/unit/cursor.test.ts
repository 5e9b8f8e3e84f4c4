import { describe, expect, it } from "vitest";

import { encodeCursor, parseAnchor, parseCursor, type Cursor } from "../../src/conversation/message/cursor.ts";
import { sessionTag } from "../../src/conversation/message/ids.ts";

const key = "chat-1";
const atRow: Cursor = { generation: 3, position: 41, mark: "0123456789abcdef" };
const atStart: Cursor = { generation: 0, position: -1, mark: "" };
const encode = (text: string): string => Buffer.from(text, "latin1").toString("base64url");
const tag = sessionTag(key);

describe("cursor", () => {
  it("reads back, at a row and before the first", () => {
    expect(parseCursor(key, encodeCursor(key, atRow))).toEqual(atRow);
    expect(parseCursor(key, encodeCursor(key, atStart))).toEqual(atStart);
    const largest = { ...atRow, generation: Number.MAX_SAFE_INTEGER, position: Number.MAX_SAFE_INTEGER };
    expect(parseCursor(key, encodeCursor(key, largest))).toEqual(largest);
  });

  it("needs no escaping in a URL or a header", () => {
    expect(encodeCursor(key, atRow)).toMatch(/^[A-Za-z0-9_-]{1,96}$/);
  });

  it("is of one session", () => {
    expect(parseCursor("chat-2", encodeCursor(key, atRow))).toBeNull();
  });

  const good = encodeCursor(key, atRow);
  it.each([
    ["nothing", ""],
    ["text", "hello"],
    ["base64 with padding", `${good}=`],
    ["a stray character", `${good.slice(0, 8)}\n${good.slice(8)}`],
    ["a cut one", good.slice(0, -1)],
    ["another version", encode(`2.${tag}.3.41.0123456789abcdef`)],
    ["leading zeros", encode(`1.${tag}.03.41.0123456789abcdef`)],
    ["a negative place", encode(`1.${tag}.3.-2.0123456789abcdef`)],
    ["a start with a mark", encode(`1.${tag}.3.-1.0123456789abcdef`)],
    ["a row without a mark", encode(`1.${tag}.3.41.`)],
    ["a mark in capitals", encode(`1.${tag}.3.41.0123456789ABCDEF`)],
    ["a number too large to be exact", encode(`1.${tag}.3.9007199254740993.0123456789abcdef`)],
    ["more behind it", encode(`1.${tag}.3.41.0123456789abcdef.`)],
    ["something huge", "A".repeat(10_000_000)],
  ])("%s is none", (_case, text) => {
    expect(parseCursor(key, text)).toBeNull();
  });

  it("the control of the cases above is one", () => {
    expect(parseCursor(key, encode(`1.${tag}.3.41.0123456789abcdef`))).toEqual(atRow);
  });
});

describe("what names a place", () => {
  const id = (text: string) => Buffer.from(text, "utf8").toString("base64");

  it("is a cursor or a Message.id of the session", () => {
    expect(parseAnchor("chat-1", key, encodeCursor(key, atRow))).toEqual(atRow);
    expect(parseAnchor("chat-1", key, id("Message:chat-1:mine"))).toEqual({ kind: "chosen", messageId: "mine" });
    expect(parseAnchor("a:ü", "p:a:ü", id("Message:a:ü:~2~x"))).toEqual({ kind: "named", hint: 2, messageId: "x" });
    const place = { kind: "place", position: 36, mark: "0123456789abcdef" };
    expect(parseAnchor("chat-1", key, id("Message:chat-1:~@10~0123456789abcdef"))).toEqual(place);
  });

  it.each([
    ["of another session", id("Message:chat-2:mine")],
    ["of a session", id("Session:chat-1")],
    ["of a run", id("Run:chat-1:mine")],
    ["without a message", id("Message:chat-1:")],
    ["of no form that there is", id("Message:chat-1:~x")],
    ["spelt otherwise", `${id("Message:chat-1:mine")}=`],
    ["something huge", id(`Message:chat-1:${"A".repeat(1_000_000)}`)],
    ["nothing", ""],
  ])("none: %s", (_case, text) => {
    expect(parseAnchor("chat-1", key, text)).toBeNull();
  });
});
