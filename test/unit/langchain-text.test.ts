import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, it, vi } from "vitest";

import { failureOf } from "../../src/langchain/models/failure.ts";
import { offlineReply, offlineSummary, offlineTitle, type Line } from "../../src/langchain/offline/offline-text.ts";
import { clip, textOf } from "../../src/langchain/text.ts";
import { cleanTitle } from "../../src/langchain/title.ts";
import { watched } from "../../src/langchain/models/watched.ts";
import { cpuTimeOf } from "../support/cpu-time.ts";

describe("offlineReply", () => {
  const user = (text: string): Line => ({ who: "user", text });
  const answer = (told: string | null): string =>
    offlineReply(told === null ? [] : [user(told)], "What did I just say my name was?");

  it.each([
    ["Hi! I'm Jim.", "Jim"],
    ["I’m Åsa and I like cats", "Åsa"],
    ["my name is jim", "jim"],
    ["My name's Anne-Marie!", "Anne-Marie"],
    ["Please call me Jim", "Jim"],
    ["I am Jim", "Jim"],
    ["I'm Bob. Well, I'm Jim.", "Jim"],
  ])("finds the name in %j", (told, name) => {
    expect(answer(told)).toContain(`your name is ${name}.`);
  });

  it.each([null, "I'm tired", "i am not sure", "What is my name?", "Do you know what my name is today?"])(
    "finds none in %j",
    (told) => {
      expect(answer(told)).toContain("haven't told me");
    },
  );

  it.each(["What is my name?", "what's my name", "Who am I?", "Do you remember my name?", "Tell me my name."])(
    "takes %j for the question",
    (asked) => {
      expect(offlineReply([user("I'm Jim")], asked)).toContain("Jim");
    },
  );

  it("takes the newest name, from the user and the summary but not from replies", () => {
    const history: Line[] = [
      { who: "summary", text: "The user said: I'm Ann" },
      { who: "assistant", text: "I'm Parley" },
    ];
    expect(offlineReply(history, "What's my name?")).toContain("Ann");
    expect(offlineReply([...history, user("call me Jim")], "What's my name?")).toContain("Jim");
  });

  it("says that it is offline, and repeats what it was told", () => {
    const text = offlineReply([user("a"), { who: "assistant", text: "b" }], "Why is the sky {blue}?");
    expect(text).toContain("offline model");
    expect(text).toContain("Why is the sky {blue}?");
    expect(text).toContain("2 messages");
  });

  it("is quick also where a message tries to keep it busy", () => {
    const time = cpuTimeOf(() => {
      offlineReply([user("what ".repeat(200_000)), user("I'm ".repeat(200_000))], "my name ".repeat(200_000));
    });
    expect(time).toBeLessThan(1000);
  });
});

it("offline titles and summaries are the user's own words, bounded", () => {
  expect(offlineTitle(" Hi!\n I'm  Jim. ")).toBe("Hi! I'm Jim.");
  expect(offlineTitle("x".repeat(500))).toHaveLength(60);
  const lines = Array.from({ length: 100 }, (_, index): Line => ({
    who: "user",
    text: `${index} ${"x".repeat(1000)}`,
  }));
  const summary = offlineSummary("before", lines);
  expect(summary.split("\n")).toHaveLength(30);
  expect(summary).toMatch(/^before\nThe user said: 0 /);
  expect(summary.length).toBeLessThan(6000);
});

it.each([
  ['"Cats on boats."', "Cats on boats"],
  ["Title: **Cats on boats**\n", "Cats on boats"],
  ["# Cats\non boats", "Cats on boats"],
  ["„Katzen“", "Katzen"],
  ["What is C++?", "What is C++?"],
  ['""', ""],
  ["x".repeat(200), `${"x".repeat(79)}…`],
])("the title %j becomes %j", (given, title) => {
  expect(cleanTitle(given)).toBe(title);
});

it("clip cuts no surrogate pair, and textOf joins text blocks only", () => {
  expect(clip("ab🌞cd", 4)).toBe("ab…");
  expect(clip("ab", 2)).toBe("ab");
  expect(
    textOf([{ type: "text", text: "a" }, { type: "thinking", thinking: "no" }, "b", { type: "text", text: "c" }]),
  ).toBe("abc");
});

it("importing replies.ts imports no vendor: start-up does not pay for LangChain", () => {
  const script = `
    import { registerHooks } from "node:module";
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    await import(process.argv[1]);
    console.log(JSON.stringify(loaded));`;
  const file = new URL("../../src/langchain/replies.ts", import.meta.url).href;
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", script, file], { encoding: "utf8" });
  const loaded: unknown = JSON.parse(output);
  expect(loaded).toContain(file);
  expect(output).not.toContain("node_modules");
});

describe("failureOf", () => {
  const coded = (code: string) => Object.assign(new Error("words with sk-secret"), { code });
  it.each([
    ["a status", Object.assign(new Error("x"), { status: 529 }), false, "MODEL_UNAVAILABLE"],
    ["a status in a response", { response: { status: 429 } }, false, "MODEL_RATE_LIMITED"],
    ["a number as code in a frame", { error: { code: 429, message: "slow" } }, true, "MODEL_RATE_LIMITED"],
    ["Anthropic's words", { status: 529, error: { error: { type: "overloaded_error" } } }, false, "MODEL_UNAVAILABLE"],
    [
      "a long prompt without a code",
      { status: 400, message: "This model's maximum context length is 10" },
      false,
      "CONTEXT_TOO_LONG",
    ],
    [
      "a refused connection",
      Object.assign(new Error("x"), { cause: coded("ECONNREFUSED") }),
      false,
      "MODEL_UNAVAILABLE",
    ],
    [
      "a connection that broke",
      Object.assign(new TypeError("terminated"), { cause: coded("UND_ERR_SOCKET") }),
      true,
      "REPLY_CUT_OFF",
    ],
    [
      "headers that never came",
      Object.assign(new Error("x"), { cause: coded("UND_ERR_HEADERS_TIMEOUT") }),
      false,
      "MODEL_TIMEOUT",
    ],
    ["half a frame", new SyntaxError("Unexpected end of JSON input"), true, "REPLY_CUT_OFF"],
    ["no error at all", "boom sk-secret", false, "OTHER"],
    ["null", null, false, "OTHER"],
  ])("knows %s", (_what, error, started, code) => {
    const failure = failureOf(error, started);
    expect(failure.code).toBe(code);
    expect(failure.message).not.toContain("sk-secret");
  });

  it("ends where causes go round in a circle", () => {
    const error = new Error("x");
    error.cause = error;
    expect(failureOf(error, false).code).toBe("OTHER");
  });
});

describe("watched", () => {
  const never = new AbortController().signal;

  it("gives what the work gives", async () => {
    expect(await watched(never, 1000, () => Promise.resolve(1))).toEqual({ kind: "done", value: 1 });
    const error = new Error("no");
    expect(await watched(never, 1000, () => Promise.reject(error))).toEqual({ kind: "threw", error });
    expect(await watched(never, Infinity, () => sleep(5, 2))).toEqual({ kind: "done", value: 2 });
  });

  it("ends idle work by its signal, and each sign of life puts that off", async () => {
    vi.useFakeTimers();
    let seen: AbortSignal | null = null;
    let ended = false;
    const { promise: alive, resolve: touched } = Promise.withResolvers<() => void>();
    const watching = watched(never, 100, (signal, touch) => {
      seen = signal;
      touched(touch);
      return new Promise<never>(() => undefined);
    }).finally(() => (ended = true));
    const touch = await alive;
    await vi.advanceTimersByTimeAsync(90);
    touch();
    await vi.advanceTimersByTimeAsync(90);
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(10);
    expect(await watching).toEqual({ kind: "timedOut" });
    expect(seen).toMatchObject({ aborted: true });
    touch();
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });
});
