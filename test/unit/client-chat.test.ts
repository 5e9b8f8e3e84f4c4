import { describe, expect, test } from "vitest";

import { applyEvent, emptyChat, messagesOf, unreadOf } from "../../packages/client/src/chat.ts";
import type { Chat } from "../../packages/client/src/chat.ts";
import type { MessageRow, OpenSessionRow, PageRow, RunRow, SessionEvent } from "../../packages/client/src/documents.ts";

const message = (position: number, text: string, generation = 0): MessageRow => ({
  ...{
    id: `m${generation}-${position}`,
    messageId: null,
    position,
    cursor: `c${position}`,
    name: null,
    createdAt: null,
  },
  ...{ role: position % 2 === 0 ? "USER" : "ASSISTANT", finishReason: null, toolCallId: null, toolFailed: null },
  ...{ toolCalls: [], content: [{ __typename: "TextBlock", text }] },
});
const run = (status: RunRow["status"], answered: number, more: Partial<RunRow> = {}): RunRow => ({
  ...{
    id: `run-${answered}`,
    replyId: `m0-${answered + 1}`,
    status,
    model: "small",
    parts: [],
    queuedAt: "now",
    approvals: [],
    waitsUntil: null,
  },
  ...{ input: [{ __typename: "TextBlock", text: "q" }], userMessageId: `m0-${answered}`, error: null },
  userMessage: status === "QUEUED" ? null : { position: answered },
  ...more,
});
const page = (...nodes: readonly MessageRow[]): PageRow => ({ nodes, pageInfo: { hasPreviousPage: false } });
const session = (more: Partial<OpenSessionRow> = {}): OpenSessionRow & { messages: PageRow } => ({
  ...{ id: "s", sessionId: "s", title: null, model: "small", archived: false, messageCount: 0, readCount: 0 },
  ...{ updatedAt: null, metadata: {}, queuedRuns: [], activeRun: null, lastRun: null },
  messages: page(),
  ...more,
});
const progress = (answered: number, offset: number, text: string, index = 0): SessionEvent => ({
  ...{ __typename: "ReplyProgress", runId: `run-${answered}`, replyId: `m0-${answered + 1}`, index, offset, text },
});
const thought = (answered: number, index: number, text: string): SessionEvent => ({
  ...{ __typename: "PartAdded", runId: `run-${answered}`, index },
  part: { __typename: "ReasoningPart", messageId: `m0-${answered + 1}`, text },
});
const thoughtMore = (answered: number, index: number, offset: number, text: string): SessionEvent => ({
  ...{ __typename: "PartProgress", runId: `run-${answered}`, index, offset, text },
});
const changed = (of: RunRow): SessionEvent => ({ __typename: "RunChanged", run: of });
const added = (row: MessageRow): SessionEvent => ({ __typename: "MessageAdded", message: row });

/** A turn, a second one that waited, a reply that failed, an edit in the middle, a clearing. */
const story: readonly SessionEvent[] = [
  { __typename: "StreamWaiting", cursor: "start" },
  { __typename: "StreamOpened", cursor: "start", session: session() },
  changed(run("RUNNING", 0)),
  added(message(0, "q")),
  progress(0, 0, "one"),
  changed(run("QUEUED", 2)),
  progress(0, 3, " two"),
  added(message(1, "one two")),
  changed(run("COMPLETED", 0)),
  changed(run("RUNNING", 2)),
  added(message(2, "q")),
  thought(2, 0, "Hm, "),
  thoughtMore(2, 0, 4, "well."),
  progress(2, 0, "ha", 1),
  thought(2, 2, "Or not?"),
  progress(2, 2, "lf", 3),
  changed(
    run("FAILED", 2, {
      parts: [{ __typename: "TextPart", messageId: "m0-3", start: 0, text: "half" }],
      error: { code: "OTHER", message: "It failed.", retryable: true },
    }),
  ),
  { __typename: "HistoryReset", kept: 2, cursor: "c1", session: session({ messages: page(message(0, "q")) }) },
  added(message(2, "edited", 1)),
  { __typename: "HistoryReset", kept: 0, cursor: "start", session: session() },
  { __typename: "SessionUpdated", session: session({ title: "t" }) },
  { __typename: "SessionRemoved" },
];

const shown = (chat: Chat) => messagesOf(chat).map(({ role, status, text }) => `${role} ${status}: ${text}`);

describe("the client's list of messages", () => {
  test("reads as the events tell, one after the other", () => {
    const states = story.map(
      (
        (chat) => (event: SessionEvent) =>
          (chat = applyEvent(chat, event))
      )(emptyChat),
    );
    const turn = ["USER stored: q", "ASSISTANT stored: one two"];
    expect(states.map(shown)).toEqual([
      [],
      [],
      ["USER sending: q", "ASSISTANT streaming: "],
      ["USER stored: q", "ASSISTANT streaming: "],
      ["USER stored: q", "ASSISTANT streaming: one"],
      ["USER stored: q", "ASSISTANT streaming: one", "USER queued: q"],
      ["USER stored: q", "ASSISTANT streaming: one two", "USER queued: q"],
      [...turn, "USER queued: q"],
      [...turn, "USER queued: q"],
      [...turn, "USER sending: q", "ASSISTANT streaming: "],
      [...turn, "USER stored: q", "ASSISTANT streaming: "],
      [...turn, "USER stored: q", "ASSISTANT streaming: "],
      [...turn, "USER stored: q", "ASSISTANT streaming: "],
      [...turn, "USER stored: q", "ASSISTANT streaming: ha"],
      [...turn, "USER stored: q", "ASSISTANT streaming: ha"],
      [...turn, "USER stored: q", "ASSISTANT streaming: half"],
      [...turn, "USER stored: q", "ASSISTANT failed: half"],
      turn,
      [...turn, "USER stored: edited"],
      [],
      [],
      [],
    ]);
  });

  test.each(story.map((event, index) => [index, event.__typename] as const))(
    "event %i (%s) changes nothing that is shown when it comes again",
    (index) => {
      const once = story.slice(0, index + 1).reduce(applyEvent, emptyChat);
      const [event] = story.slice(index);
      if (event === undefined) throw new Error("There is no such event.");
      const twice = applyEvent(once, event);
      expect(twice).toEqual(once);
      expect(shown(twice)).toEqual(shown(once));
    },
  );

  test("a message stays the same object while others come and the reply grows", () => {
    const before = story.slice(0, 5).reduce(applyEvent, emptyChat);
    const after = story.slice(5, 8).reduce(applyEvent, before);
    expect(messagesOf(after)[0]).toBe(messagesOf(before)[0]);
    expect(messagesOf(after).at(-1)).toBe(messagesOf(applyEvent(after, progress(2, 0, ""))).at(-1));
  });

  test("a reply that streams has its reasoning and its text in order, and what it does not know is passed over", () => {
    const content = (length: number) =>
      messagesOf(story.slice(0, length).reduce(applyEvent, emptyChat)).at(-1)?.content;
    const before = [
      { type: "reasoning", text: "Hm, well." },
      { type: "text", text: "ha" },
    ];
    expect([12, 13, 14].map(content)).toEqual([[{ type: "reasoning", text: "Hm, " }], before.slice(0, 1), before]);
    const whole = [...before, { type: "reasoning", text: "Or not?" }, { type: "text", text: "lf" }];
    expect(content(16)).toEqual(whole);

    const tool: SessionEvent = {
      ...{ __typename: "PartAdded", runId: "run-2", index: 4, part: { __typename: "ToolPart" } },
    };
    const others = [tool, thoughtMore(2, 4, 0, "{"), thoughtMore(2, 9, 0, "x"), thought(7, 0, "another run's")];
    const chat = [...story.slice(0, 16), ...others, progress(2, 4, "!", 5)].reduce(applyEvent, emptyChat);
    expect(messagesOf(chat).at(-1)?.content).toEqual([
      ...whole.slice(0, 3),
      { type: "text", text: "lf" },
      { type: "text", text: "!" },
    ]);
    // Joined in mid-reply without its parts, it begins with the text that comes.
    const late = applyEvent(emptyChat, progress(2, 0, "late", 3));
    expect(messagesOf(late).at(-1)?.content).toEqual([{ type: "text", text: "late" }]);
  });

  test("an agent's messages follow one another: each begins with its own text, and what came of a stored one is passed over", () => {
    const text = (replyId: string, index: number, offset: number, piece: string): SessionEvent => ({
      ...{ __typename: "ReplyProgress", runId: "run-0", replyId, index, offset, text: piece },
    });
    const events: readonly SessionEvent[] = [
      { __typename: "StreamOpened", cursor: "start", session: session() },
      changed(run("RUNNING", 0)),
      added(message(0, "q")),
      text("m0-1", 0, 0, "Let me look."),
      added(message(1, "Let me look.")),
      text("m0-1", 0, 0, "Let me look."),
      added({ ...message(2, "Sunny."), role: "TOOL" }),
      text("m0-3", 2, 0, "Fine"),
    ];
    const chat = events.reduce(applyEvent, emptyChat);
    expect(shown(chat).slice(1)).toEqual([
      "ASSISTANT stored: Let me look.",
      "TOOL stored: Sunny.",
      "ASSISTANT streaming: Fine",
    ]);
    // Where the message that calls the tools is not there yet, the next one has its own text all the same.
    const early = [...events.slice(0, 4), text("m0-3", 2, 0, "Fine")].reduce(applyEvent, emptyChat);
    expect(shown(early).at(-1)).toBe("ASSISTANT streaming: Fine");
  });

  test("while its tools work a run goes on, for who joins then too: it can be stopped", () => {
    const call = { callId: "c", name: "look", args: {} };
    const calls = added({ ...message(1, "Let me look."), toolCalls: [call] });
    const tool = added({ ...message(2, "found"), role: "TOOL", toolCallId: "c" });
    const before = [...story.slice(1, 4), progress(0, 0, "Let me look.")].reduce(applyEvent, emptyChat);
    const lines = ["USER stored: q", "ASSISTANT stored: Let me look."];
    const atWork = applyEvent(before, calls);
    expect([shown(atWork), atWork.active?.id]).toEqual([lines, "run-0"]);
    const ended = [tool, changed(run("COMPLETED", 0, { replyId: "m0-3" }))].reduce(applyEvent, atWork);
    expect([shown(ended), ended.active]).toEqual([[...lines, "TOOL stored: found"], null]);
    const opened = session({
      messages: page(message(0, "q"), message(1, "Let me look.")),
      activeRun: run("RUNNING", 0),
    });
    const joined = applyEvent(emptyChat, { __typename: "StreamOpened", cursor: "c1", session: opened });
    expect([shown(joined), joined.active?.id]).toEqual([lines, "run-0"]);
  });

  test("a stored message has its blocks by their kind, and kinds that it does not know are left out", () => {
    const citation = { url: "https://example.org", title: "Example", quote: null, start: 0, end: 4 };
    const file = { url: "https://example.org/a.pdf", mimeType: "application/pdf", fileName: "a.pdf" };
    const audio = { url: "data:audio/wav;base64,AA==", mimeType: "audio/wav" };
    const call = { callId: "c", name: "web_search", args: { query: "x" }, result: null };
    const content = [
      { __typename: "ReasoningBlock", text: "Hm." },
      { __typename: "TextBlock", text: "Yes.", citations: [citation] },
      { __typename: "ImageBlock", url: "https://example.org/a.png", detail: null },
      { __typename: "FileBlock", ...file },
      { __typename: "AudioBlock", ...audio },
      { __typename: "ServerToolBlock", ...call },
      { __typename: "OtherBlock", data: { type: "video" } },
      { __typename: "HologramBlock" },
    ];
    const [shownMessage] = messagesOf(applyEvent(emptyChat, added({ ...message(1, ""), content })));
    expect(shownMessage?.text).toBe("Yes.");
    expect(shownMessage?.content).toEqual([
      { type: "reasoning", text: "Hm." },
      { type: "text", text: "Yes.", citations: [citation] },
      { type: "image", url: "https://example.org/a.png", detail: null },
      { type: "file", ...file },
      { type: "audio", ...audio },
      { type: "server-tool", ...call },
      { type: "other", data: { type: "video" } },
    ]);
  });

  test("who sends has read what was there", () => {
    const chat = story.slice(0, 9).reduce(applyEvent, emptyChat);
    expect(unreadOf(chat)).toBe(1);
    expect(unreadOf(story.slice(9, 11).reduce(applyEvent, chat))).toBe(0);
  });

  test("what was loaded is cut away whole: the page that came with the reset takes its place", () => {
    const loaded = { ...emptyChat, stored: [], hasOlder: true };
    const chat = applyEvent(applyEvent(loaded, added(message(60, "late"))), {
      ...{ __typename: "HistoryReset", kept: 3, cursor: "c2" },
      session: session({
        messages: { nodes: [message(1, "b"), message(2, "c"), message(3, "new")], pageInfo: { hasPreviousPage: true } },
      }),
    });
    expect(shown(chat)).toEqual(["ASSISTANT stored: b", "USER stored: c"]);
    expect(chat.hasOlder).toBe(true);
  });
});
