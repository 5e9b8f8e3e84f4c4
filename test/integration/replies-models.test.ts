import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { describe, expect, it, vi } from "vitest";

import type { ReplyRequest } from "../../src/conversation/ports/model.ts";
import type { LangChainReplies, RepliesOptions } from "../../src/langchain/replies.ts";
import { secretOfErrors } from "../support/model/openai-server.ts";
import {
  ai,
  completedOf,
  human,
  model,
  repliesAt,
  requestOf,
  runReply,
  ScriptedModel,
  WholeModel,
} from "../support/model/reply-requests.ts";

// Models that need no server: those of a program that uses Parley as a library, and the offline one.

const repliesWith = (other: Partial<RepliesOptions>): LangChainReplies => repliesAt("http://127.0.0.1:1/v1", other);
const replyTo = (other: Partial<ReplyRequest>, replies: LangChainReplies) => runReply(replies, other);

describe("custom models", () => {
  it("are offered by name, made once, and need no finish reason", async () => {
    const make = vi.fn(() => Promise.resolve(new ScriptedModel(() => ["Hello ", "there"])));
    const replies = repliesWith({ models: ["offline"], custom: { mine: make } });
    expect(replies.models.map(({ name }) => name)).toEqual([model, "offline", "mine"]);
    const { outcome, tokens } = await replyTo({ model: "mine" }, replies);
    expect(completedOf(outcome)).toMatchObject({ text: "Hello there", usage: null });
    expect(completedOf(outcome).data).not.toHaveProperty("usage_metadata");
    expect(tokens).toEqual(["Hello ", "there"]);
    await replyTo({ model: "mine" }, replies);
    expect(make).toHaveBeenCalledTimes(1);
  });

  it("get another chance when their factory fails, and fail with our words", async () => {
    const make = vi.fn<() => BaseChatModel>().mockImplementationOnce(() => {
      throw new Error(`no ${secretOfErrors}`);
    });
    make.mockImplementation(() => new ScriptedModel(() => ["fine"]));
    const replies = repliesWith({ custom: { mine: make } });
    const { outcome } = await replyTo({ model: "mine" }, replies);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_UNAVAILABLE" } });
    expect(JSON.stringify(outcome)).not.toContain(secretOfErrors);
    completedOf((await replyTo({ model: "mine" }, replies)).outcome);
  });

  it("that cannot stream give their reply whole", async () => {
    const { outcome, tokens } = await replyTo({ model: "mine" }, repliesWith({ custom: { mine: new WholeModel() } }));
    expect(completedOf(outcome).text).toBe("all at once");
    expect(tokens).toEqual([]);
  });

  it("store what was streamed, whatever they say in the end", async () => {
    const mine = new ScriptedModel(() => ["what was", " seen"], "something else");
    const { data, text } = completedOf((await replyTo({ model: "mine" }, repliesWith({ custom: { mine } }))).outcome);
    expect(text).toBe("what was seen");
    expect(data["content"]).toBe("what was seen");
  });
});

describe("offline", () => {
  const offline = () => repliesWith({ defaultModel: "offline" });

  it("says what it is, streams, and finds the name in the history", async () => {
    const { outcome, tokens } = await replyTo({ model: "offline", input: human("Hi! I'm Jim.") }, offline());
    const { text, usage, data } = completedOf(outcome);
    expect(text).toContain("offline model");
    expect(tokens.length).toBeGreaterThan(5);
    expect(tokens.join("")).toBe(text);
    expect(usage?.totalTokens).toBeGreaterThan(5);
    expect(data["response_metadata"]).toEqual({ finish_reason: "stop", model_name: "offline" });

    const rows = [human("Hi! I'm Jim."), ai(text)];
    const input = human("What did I just say my name was?");
    expect(completedOf((await replyTo({ model: "offline", rows, input }, offline())).outcome).text).toContain("Jim");
    expect(completedOf((await replyTo({ model: "offline", input }, offline())).outcome).text).toContain(
      "haven't told me",
    );
  });

  it("stops in the middle", async () => {
    const controller = new AbortController();
    const replies = repliesWith({ defaultModel: "offline", offlineWordDelayMs: 1 });
    const request = requestOf({ model: "offline", signal: controller.signal, emit: () => controller.abort() });
    expect(await replies.reply(request)).toEqual({ kind: "cancelled" });
  });
});
