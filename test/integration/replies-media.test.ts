import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import type { BaseMessage } from "@langchain/core/messages";
import type { ChatGenerationChunk } from "@langchain/core/outputs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import type { ReplyRequest } from "../../src/conversation/ports/model.ts";
import { isObject, type JsonObject } from "../../src/conversation/message/json.ts";
import {
  startOpenAI,
  type Behaviour,
  type OpenAIServer,
  type RecordedRequest,
} from "../support/model/openai-server.ts";
import { ai, completedOf, human, model, repliesAt, runReply, ScriptedModel } from "../support/model/reply-requests.ts";

// Images, sounds, videos and files in a history that a model does not take, whoever wrote them.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => server.behave(null));

const replyTo = (other: Partial<ReplyRequest> = {}) => runReply(repliesAt(server.baseUrl), other);
const row = (type: string, data: object): string => JSON.stringify({ type, data });
const text = { type: "text", text: "What is in it?" };

function sent(from = -1): readonly unknown[] {
  return server.requests.at(from)?.messages.map(({ content }) => content) ?? [];
}

const pdf = "data:application/pdf;base64,QUJD";
const file = (filename: string) => ({ type: "file", file: { file_data: pdf, filename } });
const wav = { type: "input_audio", input_audio: { data: "QUJD", format: "wav" } };
const png = { type: "image_url", image_url: { url: "data:image/png;base64,QUJD" } };

/** What OpenAI's format has for a block; what is left out has a noun. */
const blocks: readonly (readonly [block: JsonObject, sent: object | string])[] = [
  [{ type: "file", source_type: "url", url: "https://x.test/a.pdf", mime_type: "application/pdf" }, "a file"],
  [{ type: "file", url: "https://x.test/a.pdf", mimeType: "application/pdf" }, "a file"],
  [{ type: "file", source_type: "base64", mime_type: "application/pdf", data: "QUJD" }, file("file")],
  [
    {
      type: "file",
      source_type: "base64",
      mime_type: "application/pdf",
      data: "QUJD",
      metadata: { filename: "a.pdf" },
    },
    file("a.pdf"),
  ],
  [{ type: "file", mimeType: "application/pdf", data: "QUJD", metadata: { name: "b.pdf" } }, file("b.pdf")],
  [{ type: "document", source: { type: "base64", media_type: "application/pdf", data: "QUJD" } }, file("file")],
  [
    { type: "file", source_type: "id", id: "file-1" },
    { type: "file", file: { file_id: "file-1" } },
  ],
  [{ type: "file", file: { file_data: pdf, filename: "c.pdf" } }, file("c.pdf")],
  [
    { type: "file", source_type: "text", text: "plain" },
    { type: "text", text: "plain" },
  ],
  [
    { type: "text-plain", text: "plain" },
    { type: "text", text: "plain" },
  ],
  [
    { type: "document", source: { type: "text", data: "plain" } },
    { type: "text", text: "plain" },
  ],
  [{ type: "audio", source_type: "url", url: "https://x.test/a.mp3", mime_type: "audio/mp3" }, "a sound"],
  [{ type: "audio", source_type: "base64", mime_type: "audio/ogg", data: "QUJD" }, "a sound"],
  [{ type: "audio", source_type: "base64", mime_type: "audio/wav", data: "QUJD" }, wav],
  [{ type: "audio", mimeType: "audio/x-wav", data: "QUJD" }, wav],
  [{ type: "media", mimeType: "audio/wav", data: "QUJD" }, wav],
  [wav, wav],
  [{ type: "video", source_type: "base64", mime_type: "video/mp4", data: "QUJD" }, "a video"],
  [{ type: "media", mimeType: "video/mp4", fileUri: "https://x.test/a.mp4" }, "a video"],
  [{ type: "image", source_type: "id", id: "file-1" }, "an image"],
  [{ type: "image", source: { type: "file", file_id: "file-1" } }, "an image"],
  [{ type: "image_url", image_url: { url: "gs://x/y.png" } }, "an image"],
  [{ type: "image", source_type: "base64", mime_type: "image/png", data: "QUJD" }, png],
  [{ type: "image", source: { type: "base64", media_type: "image/png", data: "QUJD" } }, png],
  [png, png],
];

describe("a block of the history", () => {
  it.each(blocks)("%j: OpenAI's format has it, or the turn goes on without it and says so", async (block, expected) => {
    const rows = [row("human", { content: [text, block] }), ai("A report.")];
    const outcome = completedOf((await replyTo({ rows })).outcome);
    const isLeftOut = typeof expected === "string";
    expect(sent()).toEqual([isLeftOut ? "What is in it?" : [text, expected], "A report.", "hello"]);
    expect(outcome.notes).toEqual(
      isLeftOut ? [`Left out of what the model saw, as it does not take it: ${expected}.`] : undefined,
    );
  });

  it("is counted with the others, and a message of nothing else is not sent", async () => {
    const video = { type: "video", url: "https://x.test/a.mp4" };
    const image = { type: "image", fileId: "f" };
    const rows = [
      row("human", { content: [video] }),
      row("ai", { content: [{ type: "text", text: "See." }, png] }),
      row("human", { content_blocks: [text, image, video] }),
      row("ai", { content: "", tool_calls: [{ id: "c1", name: "t", args: {} }] }),
      row("tool", { content: [{ type: "text", text: "A map." }, image], tool_call_id: "c1" }),
      row("ai", { content: [png] }),
    ];
    const outcome = completedOf((await replyTo({ rows })).outcome);
    expect(sent()).toEqual(["…", "See.", "What is in it?", "", "A map.", "hello"]);
    expect(outcome.notes).toEqual(["Left out of what the model saw, as it does not take it: 2 videos and 4 images."]);
  });

  it("leaves its row whose it was: Parley's own are joined with what follows", async () => {
    const parley = { session: "s", position: 0, run: null, hint: null };
    const content = [text, { type: "file", url: "https://x.test/a.pdf" }];
    await replyTo({ rows: [row("human", { content, response_metadata: { parley } })] });
    expect(sent()).toEqual(["What is in it?\n\nhello"]);
  });

  it("is no text of a tool's answer, which would be its data", async () => {
    const rows = [
      human("Draw."),
      row("ai", { content: "", tool_calls: [{ id: "c1", name: "t", args: {} }] }),
      row("tool", { content: [{ type: "image", base64: "QUJD", mime_type: "image/png" }], tool_call_id: "c1" }),
    ];
    const outcome = completedOf((await replyTo({ rows })).outcome);
    expect(sent()).toEqual(["Draw.", "", "The answer cannot be shown here.", "hello"]);
    expect(outcome.notes).toHaveLength(1);
  });
});

describe("a block of the message itself", () => {
  it.each(blocks.flatMap(([block, expected]) => (typeof expected === "string" ? [[block, expected] as const] : [])))(
    "%j: nothing is sent, and trying again is of no use",
    async (block, noun) => {
      const before = server.requests.length;
      const { outcome } = await replyTo({ input: human([text, block]) });
      expect(outcome).toMatchObject({
        kind: "failed",
        error: {
          code: "OTHER",
          retryable: false,
          message: `The model does not take ${noun} in this form. Leave it out, or choose another model.`,
        },
      });
      expect(server.requests.length).toBe(before);
    },
  );

  it("is in the form that the model takes", async () => {
    const input = human([
      text,
      { type: "file", mimeType: "application/pdf", data: "QUJD", metadata: { name: "a.pdf" } },
    ]);
    expect(completedOf((await replyTo({ input })).outcome).notes).toBeUndefined();
    expect(sent()).toEqual([[text, file("a.pdf")]]);
  });
});

describe("a provider that refuses what its format has", () => {
  /** As DeepSeek and other models of text alone do; OpenAI too, where an image's address leads nowhere any more. */
  const refuses =
    (how: Behaviour) =>
    (request: RecordedRequest): Behaviour =>
      request.messages.some(({ content }) => Array.isArray(content) && content.filter(isObject).some(isNoText))
        ? how
        : { kind: "reply", text: "Fine." };
  const isNoText = (part: Readonly<Record<string, unknown>>) => part["type"] !== "text";
  const rows = [row("human", { content: [text, png] }), ai("A cat."), row("human", { content: [text, png, wav] })];

  it.each(["400", "404"] as const)("with %s is asked once more without it, and the run says so", async (status) => {
    server.behave(refuses(status));
    const before = server.requests.length;
    const { outcome, tokens } = await replyTo({ rows });
    expect(tokens.join("")).toBe("Fine.");
    expect(completedOf(outcome).notes).toEqual([
      "Left out of what the model saw, as its provider refused the request with it: 2 images and a sound.",
    ]);
    expect(server.requests.length - before).toBe(2);
    expect(sent()).toEqual(["What is in it?", "A cat.", "What is in it?", "hello"]);
  });

  it("says it by 500, as llama.cpp does, and is asked once more too", async () => {
    const error = {
      code: 500,
      message: "image input is not supported - hint: provide the mmproj",
      type: "server_error",
    };
    const headers = { "content-type": "application/json" };
    server.behave(refuses({ kind: "raw", status: 500, headers, parts: [JSON.stringify({ error })] }));
    const before = server.requests.length;
    expect(completedOf((await replyTo({ rows })).outcome).notes).toHaveLength(1);
    expect(server.requests.length - before).toBe(2);
  });

  it("refuses the message itself: that is the answer, after no more than one more request", async () => {
    server.behave(refuses("400"));
    const before = server.requests.length;
    const { outcome } = await replyTo({ rows, input: human([text, png]) });
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "OTHER", retryable: false } });
    expect(server.requests.length - before).toBe(2);
    expect((await replyTo({ input: human([text, png]) })).outcome.kind).toBe("failed");
    expect(server.requests.length - before).toBe(3);
  });

  it.each(["429", "500", "401", "context_length", "contentFilter"] as const)(
    "fails with %s: another thing, and not asked again",
    async (status) => {
      server.behave(status);
      const before = server.requests.length;
      expect((await replyTo({ rows })).outcome.kind).toBe("failed");
      expect(server.requests.length - before).toBe(1);
    },
  );

  it("is not asked again where the reply had begun", async () => {
    server.behave({ kind: "errorFrame", code: "invalid_request_error" });
    const before = server.requests.length;
    expect((await replyTo({ rows })).outcome.kind).toBe("failed");
    expect(server.requests.length - before).toBe(1);
  });

  it("may be LangChain's class for it, which throws before it sends anything", async () => {
    const seen: number[] = [];
    class OfText extends ScriptedModel {
      override async *_streamResponseChunks(
        messages: BaseMessage[],
        options: this["ParsedCallOptions"],
        runManager?: CallbackManagerForLLMRun,
      ): AsyncGenerator<ChatGenerationChunk> {
        const others = messages.filter(({ content }) => typeof content !== "string").length;
        seen.push(others);
        if (others > 0) throw new Error("Audio content blocks are not supported");
        yield* super._streamResponseChunks(messages, options, runManager);
      }
    }
    const replies = repliesAt(server.baseUrl, { custom: { own: new OfText(() => ["Fine."]) } });
    const { outcome } = await runReply(replies, { model: "own", rows });
    expect(completedOf(outcome).text).toBe("Fine.");
    expect(completedOf(outcome).notes).toHaveLength(1);
    expect(seen).toEqual([2, 0]);
  });
});

it("a summary is made of the text alone", async () => {
  server.behave({ kind: "reply", text: "A cat." });
  const rows = Array.from({ length: 10 }, () => [
    row("human", { content: [text, png] }),
    ai("word ".repeat(20)),
  ]).flat();
  const signal = new AbortController().signal;
  // Loading the tokens' counter takes so long that a connection which was kept open may be closed meanwhile.
  const openai = { apiKey: null, baseUrl: server.baseUrl, temperature: null, maxRetries: 2 };
  const made = await repliesAt(server.baseUrl, { openai }).summarize({
    model,
    maxTokens: 400,
    summary: null,
    rows,
    signal,
  });
  expect(made?.text).toBe("A cat.");
  const asked = JSON.stringify(server.requests.at(-1)?.messages);
  expect(asked).toContain("What is in it?");
  expect(asked).not.toContain("base64");
});
