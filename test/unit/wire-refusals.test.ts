import { describe, expect, it } from "vitest";

import { providerError } from "../../src/langchain/wire/provider-error.ts";
import { Refusals, type Adaptation } from "../../src/langchain/wire/request.ts";

const bodyAfter = (body: Record<string, unknown>, error: unknown, status = 400) =>
  new Refusals().answerTo(providerError(error, status), body, new Set<Adaptation>())?.body ?? null;

describe("what a request is without what was refused", () => {
  it("max_completion_tokens is max_tokens, and the other way round", () => {
    expect(bodyAfter({ max_completion_tokens: 9 }, { detail: "Unknown field: max_completion_tokens" })).toEqual({
      max_tokens: 9,
    });
    const words =
      "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    expect(bodyAfter({ max_tokens: 9 }, { error: { message: words, param: "max_tokens" } })).toEqual({
      max_completion_tokens: 9,
    });
  });

  it("a name of the model's words is left out, a user's is kept in the text", () => {
    const messages = [
      { role: "user", name: "bob", content: [{ type: "text", text: "hi" }] },
      { role: "assistant", name: "bot", content: "yes" },
    ];
    expect(bodyAfter({ messages }, "property 'name' is unsupported")).toEqual({
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "bob:" },
            { type: "text", text: "hi" },
          ],
        },
        { role: "assistant", content: "yes" },
      ],
    });
  });

  it("a list with an image in it stays a list", () => {
    const messages = [
      {
        role: "user",
        content: [
          { type: "text", text: "look" },
          { type: "image_url", image_url: { url: "x" } },
        ],
      },
    ];
    expect(bodyAfter({ messages }, "messages[0].content must be a string")).toBeNull();
  });

  it.each([
    "The model name 'm' is not valid.",
    "tools[0].function.name must match ^[a-z]+$",
    "string too long: messages[0].content exceeds the maximum",
    "System message must be at the beginning.",
    "Something went wrong.",
  ])("stays as it is: %s", (words) => {
    const messages = [
      { role: "system", content: "s" },
      { role: "user", name: "bob", content: [{ type: "text", text: "hi" }] },
    ];
    expect(bodyAfter({ messages, temperature: 1, stream_options: {} }, { error: { message: words } })).toBeNull();
  });

  it.each([401, 403, 404, 413, 429, 500])("stays as it is with the status %d", (status) => {
    expect(bodyAfter({ temperature: 1 }, "temperature is unsupported", status)).toBeNull();
  });

  it("Gemma's system message, by the name that Google's endpoint gives it, goes into the user's", () => {
    const messages = [
      { role: "system", content: "s" },
      { role: "user", content: "u" },
    ];
    const error = [
      {
        error: {
          code: 400,
          message: "Developer instruction is not enabled for models/gemma-3",
          status: "INVALID_ARGUMENT",
        },
      },
    ];
    expect(bodyAfter({ messages }, error)).toEqual({ messages: [{ role: "user", content: "s\n\nu" }] });
  });
});
