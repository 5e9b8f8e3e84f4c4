import { getEventListeners } from "node:events";

import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

import type { ReplyRequest } from "../../src/conversation/ports/model.ts";
import type { RunErrorCode } from "../../src/conversation/run.ts";
import type { LangChainReplies, RepliesOptions } from "../../src/langchain/replies.ts";
import { secretOfErrors, startOpenAI, type Behaviour, type OpenAIServer } from "../support/model/openai-server.ts";
import {
  completedOf,
  freePort,
  repliesAt,
  requestOf,
  runReply,
  textOfPiece,
  ScriptedModel,
} from "../support/model/reply-requests.ts";

// How replies fail and how they are stopped, through the real ChatOpenAI.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => {
  server.behave(null);
  vi.unstubAllEnvs();
});

const repliesWith = (other: Partial<RepliesOptions> = {}): LangChainReplies => repliesAt(server.baseUrl, other);
const replyTo = (other: Partial<ReplyRequest> = {}, replies = repliesWith()) => runReply(replies, other);

describe("a failure", () => {
  const failures: readonly [Behaviour, RunErrorCode, boolean][] = [
    ["429", "MODEL_RATE_LIMITED", true],
    ["quota", "MODEL_RATE_LIMITED", false],
    ["401", "MODEL_UNAUTHORIZED", false],
    ["403", "MODEL_UNAUTHORIZED", false],
    ["404", "MODEL_UNAVAILABLE", false],
    ["500", "MODEL_UNAVAILABLE", true],
    ["503", "MODEL_UNAVAILABLE", true],
    ["400", "OTHER", false],
    ["context_length", "CONTEXT_TOO_LONG", false],
    ["contentFilter", "CONTENT_REFUSED", false],
    [
      { kind: "reply", finishReason: "content_filter", toolCalls: [{ id: "x", name: "x", arguments: "{}" }] },
      "CONTENT_REFUSED",
      false,
    ],
    ["errorFrame", "MODEL_UNAVAILABLE", true],
    [{ kind: "errorFrame", code: "rate_limit_exceeded" }, "MODEL_RATE_LIMITED", true],
    [{ kind: "errorFrame", code: "who_knows" }, "OTHER", true],
    ["cutMidStream", "REPLY_CUT_OFF", true],
    ["noFinishReason", "REPLY_CUT_OFF", true],
    ["empty", "REPLY_CUT_OFF", true],
  ];
  it.each(failures)("%j is %s", async (behaviour, code, retryable) => {
    server.behave(behaviour);
    const { outcome } = await replyTo();
    expect(outcome).toEqual({ kind: "failed", error: { code, retryable, message: expect.any(String) as string } });
    const shown = JSON.stringify(outcome);
    expect(shown).not.toContain(secretOfErrors);
    expect(shown).not.toContain("127.0.0.1");
  });

  it.each(["cutMidStream", "noFinishReason", "errorFrame"] as const)(
    "%s has given its text before",
    async (behaviour) => {
      server.behave(behaviour);
      expect((await replyTo()).tokens.join("")).toBe("Half a reply");
    },
  );

  it("of a server that nobody listens at is MODEL_UNAVAILABLE", async () => {
    const openai = {
      apiKey: null,
      baseUrl: `http://127.0.0.1:${await freePort()}/v1`,
      temperature: null,
      maxRetries: 0,
    };
    const { outcome } = await replyTo({}, repliesWith({ openai }));
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_UNAVAILABLE", retryable: true } });
  });

  it("of a provider whose package is missing names it", async () => {
    const { outcome } = await replyTo(
      { model: "google-genai:gemini" },
      repliesWith({ models: ["google-genai:gemini"] }),
    );
    expect(outcome).toMatchObject({
      error: {
        code: "MODEL_UNAVAILABLE",
        message: expect.stringContaining("npm install @langchain/google-genai") as string,
      },
    });
  });

  it("is a model that is not offered, none at all, or has no key", async () => {
    vi.stubEnv("OPENAI_API_KEY", "sk-environment");
    const openai = { apiKey: null, baseUrl: null, temperature: null, maxRetries: 0 };
    const replies = repliesWith({ models: ["nonsense", "nobody:x"], openai });
    expect((await replyTo({ model: "openai:other" }, replies)).outcome).toMatchObject({
      error: { code: "MODEL_UNAVAILABLE" },
    });
    expect((await replyTo({ model: "nonsense" }, replies)).outcome).toMatchObject({
      error: { code: "MODEL_UNAVAILABLE" },
    });
    expect((await replyTo({ model: "nobody:x" }, replies)).outcome).toMatchObject({
      error: { code: "MODEL_UNAVAILABLE" },
    });
    expect((await replyTo({}, replies)).outcome).toMatchObject({ error: { code: "MODEL_UNAUTHORIZED" } });
    expect(await replies.warm()).toMatchObject({ code: "MODEL_UNAUTHORIZED" });
  });

  it.each(["hang", "hangMidStream"] as const)(
    "%s is MODEL_TIMEOUT, and closes the provider's socket",
    async (behaviour) => {
      server.behave(behaviour);
      const before = server.aborted;
      const { outcome } = await replyTo({}, repliesWith({ timeoutMs: 300 }));
      expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_TIMEOUT", retryable: true } });
      await server.waitForAbort(before + 1);
    },
  );

  it("is no reply that takes long but goes on", async () => {
    server.behave({ kind: "reply", tokens: Array.from({ length: 8 }, () => "x"), delayMs: 300 });
    expect(completedOf((await replyTo({}, repliesWith({ timeoutMs: 2000 }))).outcome).text).toBe("xxxxxxxx");
  });
});

describe("stop", () => {
  it("closes the provider's socket, and no text comes after it", async () => {
    server.behave({ kind: "gated", tokens: ["one", " two"] });
    const before = server.aborted;
    const controller = new AbortController();
    const tokens: string[] = [];
    const running = repliesWith().reply(
      requestOf({
        signal: controller.signal,
        emit: (piece) => {
          tokens.push(textOfPiece(piece));
          controller.abort();
        },
      }),
    );
    server.release();
    expect(await running).toEqual({ kind: "cancelled" });
    await server.waitForAbort(before + 1);
    expect(tokens).toEqual(["one"]);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });

  it("stops while the provider has not answered yet, and before it is asked", async () => {
    server.behave("hang");
    const before = server.requests.length;
    const controller = new AbortController();
    const running = repliesWith().reply(requestOf({ signal: controller.signal }));
    await server.waitForRequests(before + 1);
    controller.abort();
    expect(await running).toEqual({ kind: "cancelled" });
    expect(await repliesWith().reply(requestOf({ signal: controller.signal }))).toEqual({ kind: "cancelled" });
    expect(server.requests.length).toBe(before + 1);
  });

  it("does not wait for a model that ignores its signal", async () => {
    const deaf = new ScriptedModel(function* () {
      yield "one";
      yield new Promise<string>(() => undefined);
    });
    const controller = new AbortController();
    const replies = repliesWith({ custom: { deaf } });
    const outcome = await replies.reply(
      requestOf({ model: "deaf", signal: controller.signal, emit: () => controller.abort() }),
    );
    expect(outcome).toEqual({ kind: "cancelled" });
  });
});
