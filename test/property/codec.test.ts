import { mapChatMessagesToStoredMessages, mapStoredMessagesToChatMessages } from "@langchain/core/messages";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { AnswerBudget } from "../../src/graphql/answer-budget.ts";
import { briefRow } from "../../src/conversation/message/brief-row.ts";
import { encodeCursor, parseCursor } from "../../src/conversation/message/cursor.ts";
import {
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
import type { ContentBlock, NewMessage, ToolCall } from "../../src/conversation/message/message.ts";
import { ReadMessage } from "../../src/conversation/message/read-message.ts";
import {
  contentFingerprint,
  decodeStoredMessage,
  escapeFragment,
  fillTemplate,
  joinFragments,
  templateOfMessage,
  templateOfPartial,
  templateOfReply,
  type RowNote,
} from "../../src/conversation/message/stored-message.ts";
import { checkProperty } from "../support/store/property.ts";

/** Any UTF-16 at all: lone surrogates, controls and what JSON, Lua and templates give a meaning to among it. */
const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 20 }).map((units) => String.fromCharCode(...units)),
  fc
    .array(
      fc.constantFrom('"', "\\", "{", "}", "{{x}}", "\n", "\r\n", "\u2028", "\u0000", "\ud83d", "\ude00", "%", "é"),
    )
    .map((parts) => parts.join("")),
);
const someText = anyText.filter((text) => text !== "");
const messageId = fc.oneof(
  fc.stringMatching(/^[A-Za-z0-9._-]{1,128}$/),
  fc.integer({ min: 0, max: 4e12 }).map((now) => uuidv7(now)),
);
const jsonObject = fc.dictionary(anyText, fc.jsonValue({ stringUnit: "binary" }), { maxKeys: 4 });
/** As JSON has it: no -0. */
const plainJson = jsonObject.map((value): Record<string, unknown> => {
  // Safe: JSON of an object is an object.
  return JSON.parse(JSON.stringify(value)) as Record<string, unknown>;
});

const image = fc.record({
  kind: fc.constant("image" as const),
  url: fc.tuple(fc.constantFrom("https://", "data:"), anyText).map((parts) => parts.join("")),
  detail: fc.option(someText),
});
const other = fc
  .tuple(fc.constantFrom("reasoning", "file", "input_audio"), plainJson)
  .map(([type, data]): ContentBlock => ({ kind: "other", type, data: { ...data, type } }));
const text = fc.record({ kind: fc.constant("text" as const), text: anyText });
const content: fc.Arbitrary<readonly ContentBlock[]> = fc.oneof(
  fc.tuple(text),
  fc.array<ContentBlock>(fc.oneof(text, image, other), { maxLength: 4 }),
);
const toolCall: fc.Arbitrary<ToolCall> = fc.record({ callId: fc.option(someText), name: someText, args: plainJson });
const message: fc.Arbitrary<NewMessage> = fc
  .record({
    role: fc.constantFrom("USER" as const, "ASSISTANT" as const, "SYSTEM" as const, "TOOL" as const),
    content,
    name: fc.option(someText),
    messageId: fc.constant(null),
    toolCallId: someText,
    toolFailed: fc.option(fc.boolean()),
    toolCalls: fc.array(toolCall, { maxLength: 3 }),
  })
  .map(({ role, ...rest }) => ({
    ...rest,
    role,
    toolCallId: role === "TOOL" ? rest.toolCallId : null,
    toolFailed: role === "TOOL" ? rest.toolFailed : null,
    toolCalls: role === "ASSISTANT" ? rest.toolCalls : [],
  }));
const position = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const historyKey = fc.string({ unit: "binary", minLength: 1, maxLength: 40 });
const note: fc.Arbitrary<RowNote> = fc.record({
  session: historyKey.map(sessionTag),
  runId: fc.option(fc.uuid()),
  hint: fc.option(position),
  createdAt: fc.integer({ min: 0, max: 253_402_300_799_999 }),
});

/** What readers see: an only text that is empty is no content. */
function shown(blocks: readonly ContentBlock[]): readonly ContentBlock[] {
  const [first] = blocks;
  return blocks.length === 1 && first?.kind === "text" && first.text === "" ? [] : blocks;
}

/** What LangChain JS makes of the row when it reads the history and stores the message again. */
function throughLangChain(row: string): { readonly stored: unknown; readonly data: unknown } {
  // Safe: LangChain's own stores hand on what JSON.parse gives in the same way, and the test is whether it takes it.
  const parsed = JSON.parse(row) as Parameters<typeof mapStoredMessagesToChatMessages>[0][number];
  const before = structuredClone(parsed);
  const [again] = mapChatMessagesToStoredMessages(mapStoredMessagesToChatMessages([parsed]));
  return { stored: before, data: JSON.parse(JSON.stringify(again)) };
}

/** LangChain JS wraps an object with the key `lc` and loses the key `__proto__` when it stores again: of any row, not only ours. */
const changedByLangChain = (row: string): boolean => /"lc":|__lc_escaped__|"__proto__":/.test(row);

describe("rows that we write", () => {
  it("say what was put in, on one line", async () => {
    await checkProperty(
      fc.property(message, messageId, note, position, (given, id, noted, at) => {
        const row = fillTemplate(templateOfMessage(given, id, noted), at);
        expect(row).not.toMatch(/[\r\n]/);
        const { createdAt, finishReason, usage, text: whole, ...read } = decodeStoredMessage(row);
        const { session, runId, hint } = noted;
        const blocks = shown(given.content);
        expect({ ...read }).toEqual({
          ...given,
          content: blocks,
          messageId: id,
          origin: { session, position: at, runId, hint },
        });
        expect(whole).toBe(blocks.map((block) => (block.kind === "text" ? block.text : "")).join(""));
        expect([finishReason, usage]).toEqual([null, null]);
        const time = timeOfUuidv7(id);
        const told = time !== null && Math.abs(time - noted.createdAt) <= 1000;
        expect(createdAt).toBe(told ? time : noted.createdAt);
      }),
      { runs: 150 },
    );
  });

  it("come back from LangChain JS as they were", async () => {
    await checkProperty(
      fc.property(message, messageId, note, position, (given, id, noted, at) => {
        const row = fillTemplate(templateOfMessage(given, id, noted), at);
        fc.pre(!changedByLangChain(row));
        const { stored, data } = throughLangChain(row);
        expect(data).toEqual(stored);
      }),
      { runs: 100 },
    );
  });

  it("hold a reply whole, and LangChain JS reads it", async () => {
    const reply = fc.record({
      content: fc.oneof(anyText, fc.array(plainJson, { maxLength: 3 })),
      usage_metadata: fc.record({ input_tokens: fc.nat(), output_tokens: fc.nat(), total_tokens: fc.nat() }),
      response_metadata: plainJson
        .filter((data) => !("parley" in data) && !("created_at" in data))
        .map((data): Record<string, unknown> => ({ ...data, finish_reason: "stop" })),
      additional_kwargs: fc.dictionary(fc.stringMatching(/^k[a-z]{0,5}$/), anyText, { maxKeys: 3 }),
      tool_calls: fc.array(
        fc.record({ name: someText, args: plainJson, id: someText, type: fc.constant("tool_call") }),
      ),
    });
    await checkProperty(
      fc.property(reply, messageId, note, position, (given, id, noted, at) => {
        const row = fillTemplate(templateOfReply(given, id, noted), at);
        expect(row).not.toMatch(/[\r\n]/);
        const read = decodeStoredMessage(row);
        expect(read).toMatchObject({ role: "ASSISTANT", messageId: id, finishReason: "STOP" });
        expect(read.origin).toEqual({
          session: noted.session,
          position: at,
          runId: noted.runId,
          hint: noted.hint,
        });
        expect(read.toolCalls).toEqual(given.tool_calls.map(({ id: callId, name, args }) => ({ callId, name, args })));
        if (typeof given.content === "string") expect(read.text).toBe(given.content);
        fc.pre(!changedByLangChain(row));
        const { stored, data } = throughLangChain(row);
        expect(data).toEqual(stored);
        const { usage_metadata, additional_kwargs, content: blocks } = given;
        expect(stored).toMatchObject({ data: { content: blocks, usage_metadata, additional_kwargs } });
        for (const [key, value] of Object.entries(given.response_metadata)) {
          expect(row).toContain(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
        }
      }),
      { runs: 100 },
    );
  });

  it("hold a cancelled reply from fragments cut anywhere", async () => {
    await checkProperty(
      fc.property(anyText, fc.array(fc.nat()), messageId, note, position, (whole, cuts, id, noted, at) => {
        const places = [0, ...cuts.map((cut) => cut % (whole.length + 1)), whole.length].toSorted((a, b) => a - b);
        const fragments = places.slice(1).map((end, index) => escapeFragment(whole.slice(places[index], end)));
        expect(joinFragments(fragments.join(""))).toBe(whole);
        const { head, middle, tail } = templateOfPartial(id, noted);
        const row = `${head}${fragments.join("")}${middle}${at}${tail}`;
        expect(row).not.toMatch(/[\r\n]/);
        expect(decodeStoredMessage(row)).toMatchObject({ text: whole, messageId: id, finishReason: "CANCELLED" });
        const { stored, data } = throughLangChain(row);
        expect(data).toEqual(stored);
      }),
      { runs: 150 },
    );
  });
});

/** What a page is mostly asked for, in an order that has no JSON parsed where the row says it in brief. */
function saidInBrief(raw: string): unknown {
  const read = new ReadMessage(raw);
  const { messageId, role, writtenText, text, createdAt, origin } = read;
  return { messageId, role, writtenText, text, createdAt, origin };
}

describe("rows in brief", () => {
  /** No pattern is made for a space in front: the row is parsed. */
  const expectSame = (raw: string) => expect(saidInBrief(raw)).toEqual(saidInBrief(` ${raw}`));
  const plainText = fc
    .string({ unit: "grapheme", minLength: 1 })
    .filter((one) => !JSON.stringify(one).includes(String.raw`\u`));
  const name = fc.stringMatching(/^[a-z_]{1,12}$/).filter((one) => one !== "parley" && one !== "created_at");
  const scalar = fc.oneof(name, fc.integer({ min: 0, max: 1e9 }), fc.boolean(), fc.constant(null));
  const metadata = fc.dictionary(name, fc.oneof(scalar, fc.dictionary(name, scalar, { maxKeys: 3 })), { maxKeys: 4 });
  const small = note.map(({ hint, ...rest }): RowNote => ({ ...rest, hint: hint === null ? null : hint % 1e9 }));
  const at = fc.nat({ max: 1e9 });
  const ofGateway = fc.oneof(
    fc.record({ given: message, text: plainText, id: messageId, noted: small, at }).map((one) => {
      const content: readonly ContentBlock[] = [{ kind: "text", text: one.text }];
      const given: NewMessage = { ...one.given, content, name: null, toolCalls: [], toolCallId: "call_1" };
      return fillTemplate(templateOfMessage(given, one.id, one.noted), one.at);
    }),
    fc.record({ content: plainText, metadata, id: messageId, noted: small, at }).map((one) => {
      const usage_metadata = { input_tokens: 1, output_tokens: 2, total_tokens: 3, input_token_details: { cached: 0 } };
      const data = { content: one.content, usage_metadata, response_metadata: one.metadata };
      return fillTemplate(templateOfReply(data, one.id, one.noted), one.at);
    }),
  );
  const ofLangChain = fc.record({ type: fc.constantFrom("human", "ai"), content: plainText, metadata }).map((one) =>
    JSON.stringify({
      type: one.type,
      data: { content: one.content, additional_kwargs: {}, response_metadata: one.metadata },
    }),
  );

  it("say what their JSON says, without being parsed", async () => {
    await checkProperty(
      fc.property(fc.oneof(ofGateway, ofLangChain), (raw) => {
        expect(briefRow(raw)).not.toBeNull();
        expectSame(raw);
      }),
      { runs: 300 },
    );
  });

  it("say what their JSON says where foreign code has changed them", async () => {
    const pieces = [
      ...[
        '"',
        "\\",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "0",
        "-",
        "1.5e3",
        "null",
        "\n",
        "\0",
        "\ud800",
        " ",
        "\\u0041",
        "\\/",
      ],
      ...[
        '"content":"other",',
        '"id":"other",',
        '"created_at":"2024-02-03T04:05:06Z",',
        '"created_at":7,',
        '"type":"tool",',
      ],
      ...[
        '"parley":{},',
        '"parley":{"session":"","run":null,"hint":0,"position":0}',
        '"__proto__":{},',
        '"x":{"content":"y"},',
      ],
      ...['"additional_kwargs":{},', '"response_metadata":{},', ',"role":"ai"'],
    ];
    const change = fc.record({ from: fc.nat(), length: fc.nat({ max: 3 }), piece: fc.constantFrom("", ...pieces) });
    await checkProperty(
      fc.property(
        fc.oneof(ofGateway, ofLangChain),
        fc.array(change, { minLength: 1, maxLength: 3 }),
        (row, changes) => {
          let raw = row;
          for (const { from, length, piece } of changes) {
            // Mostly where something begins: in the middle of a text most pieces are text.
            const starts = [...raw.matchAll(/[{,}"]/g)].map(({ index }) => index);
            const start = starts[from % (starts.length || 1)] ?? 0;
            raw = raw.slice(0, start + (from % 2)) + piece + raw.slice(start + (from % 2) + length);
          }
          expectSame(raw);
        },
      ),
      { runs: 1000 },
    );
  });

  it.each([
    ["an escape that JSON.stringify does not write", '"content":"a\\/b"'],
    ["an escape with digits", '"content":"\\u0041"'],
    ["half of a surrogate pair", '"content":"\ud800"'],
    ["a control character", '"content":"a\tb"'],
    ["a number that is none", '"content":"a","n":01'],
    ["a key twice", '"content":"a","response_metadata":{"created_at":"2024-02-03T04:05:06Z"}'],
    ["its own end inside of a text", '"content":"a","x":"}}}}","y":"\\"}}}}"'],
  ])("say what their JSON says of %s", (_what, content) => {
    const noted = '"response_metadata":{"parley":{"session":"s","run":null,"hint":1,"position":1}}';
    expectSame(`{"type":"human","data":{${content},"additional_kwargs":{},${noted}}}`);
  });

  it("are not tried in all ways where the last character does not fit", () => {
    const objects = Array.from({ length: 150 }, (_, i) => `"k${i}":{"a":1,"b":{}},"l${i}":{"a":{"b":1}}`).join();
    const raw = `{"type":"ai","data":{"content":"x",${objects},"additional_kwargs":{},"response_metadata":{${objects}}}}`;
    expect(briefRow(raw)).not.toBeNull();
    expect(briefRow(raw.slice(0, -1))).toBeNull();
    expect(briefRow(`${raw.slice(0, -3)},}}}`)).toBeNull();
  });

  it("are parsed where they are long", () => {
    const raw = JSON.stringify({
      type: "ai",
      data: { content: "x".repeat(20_000), additional_kwargs: {}, response_metadata: {} },
    });
    expect(briefRow(raw)).toBeNull();
    expectSame(raw);
  });

  it("count for the bytes that they say, not for those of their escapes", async () => {
    const long = fc
      .tuple(anyText, fc.constantFrom(0, 1000, 1020, 1024, 3000))
      .map(([one, length]) => one + '"é'.repeat(length / 2));
    await checkProperty(
      fc.property(long, (given) => {
        const bytes = given.length < 1024 ? given.length : Buffer.byteLength(given);
        for (const most of [bytes, bytes - 1]) {
          const refusals = [
            new AnswerBudget(most, () => undefined).text(given),
            new AnswerBudget(most, () => undefined).written(JSON.stringify(given)),
          ];
          expect(refusals.map((one) => one !== null)).toEqual([bytes > most, bytes > most]);
        }
      }),
      { runs: 200 },
    );
  });
});

describe("rows of anybody", () => {
  /** JSON that is almost a stored message: the right keys with any values. */
  const almost = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 4, withCrossShrink: true }, fc.jsonValue(), tie("object"), fc.array(tie("value"))),
    object: fc.dictionary(
      fc.constantFrom(
        ...["type", "data", "text", "content", "id", "name", "role", "tool_calls", "invalid_tool_calls", "args"],
        ...["additional_kwargs", "function", "arguments", "usage_metadata", "input_tokens", "output_tokens"],
        ...["total_tokens", "response_metadata", "created_at", "parley", "session", "position", "run", "hint"],
        ...["image_url", "url", "detail", "mimeType", "status", "tool_call_id", "__proto__", "constructor"],
      ),
      tie("value"),
    ),
  })).object;
  const row = fc
    .tuple(fc.constantFrom("human", "ai", "tool", "generic", "chat", "AIMessageChunk", "x"), almost)
    .map(([type, data]) => JSON.stringify({ type, data }));

  it("never throw, and never give what GraphQL refuses", async () => {
    await checkProperty(
      fc.property(
        fc.oneof(
          anyText,
          fc.json(),
          almost.map((value) => JSON.stringify(value)),
          row,
        ),
        (raw) => {
          const read = decodeStoredMessage(raw);
          expect(read.text).toBe(read.content.map((block) => (block.kind === "text" ? block.text : "")).join(""));
          for (const count of Object.values(read.usage ?? {})) expect(count | 0).toBe(count);
          if (read.createdAt !== null) expect(new Date(read.createdAt).toISOString()).toHaveLength(24);
          for (const call of read.toolCalls) expect(call.args ?? null).not.toBeNull();
          for (const block of read.content) if (block.kind === "other") expect(block.data ?? null).not.toBeNull();
          const local = localMessageId("key", { position: 3, mark: markOf(raw), raw }, read);
          expect(parseLocalId(local)).not.toBeNull();
        },
      ),
      { runs: 500 },
    );
  });

  it("fragments that are no JSON text join to something", async () => {
    await checkProperty(fc.property(anyText, (escaped) => typeof joinFragments(escaped) === "string"));
  });
});

describe("ids and cursors", () => {
  const mark = fc.string({ unit: "binary" }).map(markOf);

  it("local ids read back", async () => {
    await checkProperty(
      fc.property(position, messageId, mark, historyKey, (at, id, ofRow, sessionId) => {
        const named = namedLocalId(at, id);
        const place = placeLocalId(at, ofRow);
        expect(parseLocalId(named)).toEqual({ kind: "named", hint: at, messageId: id });
        expect(parseLocalId(place)).toEqual({ kind: "place", position: at, mark: ofRow });
        expect(parseLocalId(id)).toEqual({ kind: "chosen", messageId: id });
        for (const local of [named, place, id]) {
          expect(splitLocal(joinLocal(sessionId, local))).toEqual({ sessionId, local });
        }
      }),
    );
  });

  it("cursors read back in their session, and nothing else reads as one", async () => {
    const place = fc.oneof(
      fc.record({ generation: position, position, mark }),
      fc.record({ generation: position, position: fc.constant(-1), mark: fc.constant("") }),
    );
    await checkProperty(
      fc.property(place, historyKey, historyKey, anyText, fc.nat(), (cursor, key, otherKey, junk, at) => {
        const encoded = encodeCursor(key, cursor);
        expect(parseCursor(key, encoded)).toEqual(cursor);
        if (sessionTag(otherKey) !== sessionTag(key)) expect(parseCursor(otherKey, encoded)).toBeNull();
        const cut = at % encoded.length;
        for (const text of [junk, encoded + junk, encoded.slice(0, cut) + junk + encoded.slice(cut)]) {
          const read = parseCursor(key, text);
          if (read !== null) expect(encodeCursor(key, read)).toBe(text);
        }
        expect(parseCursor(key, encoded.slice(0, cut))).toBeNull();
      }),
      { runs: 150 },
    );
  });

  it("a fingerprint is of the content, however its keys are ordered", async () => {
    const reversed = (value: unknown): unknown =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).toReversed())
        : value;
    await checkProperty(
      fc.property(message, message, (one, two) => {
        // Safe: the same message with its keys, at every depth, in another order.
        const again = JSON.parse(JSON.stringify(one), (_key, value: unknown) => reversed(value)) as NewMessage;
        expect(contentFingerprint(again)).toBe(contentFingerprint(one));
        const same = JSON.stringify(one) === JSON.stringify(two);
        if (!same) expect(contentFingerprint(two)).not.toBe(contentFingerprint(one));
      }),
    );
  });
});
