import type { PlacedMessage } from "../../conversation/events.ts";
import { badInput } from "../../conversation/errors.ts";
import { isObject } from "../../conversation/message/json.ts";
import { isMessageId } from "../../conversation/message/ids.ts";
import type { ContentBlock, NewMessage } from "../../conversation/message/message.ts";
import { builder } from "../builder.ts";
import { listSize } from "../limits-cost.ts";
import { pagesBelow } from "../reading/lookahead.ts";
import { MessageRoleRef } from "./message.ts";
import { MessageParent } from "../reading/message-parent.ts";
import { Readings, requestOf } from "../reading/readings.ts";
import type { SessionParent } from "../reading/readings.ts";
import { MessageRef, SessionRef } from "../reading/refs.ts";

const ImageBlockInput = builder.inputType("ImageBlockInput", {
  description: "An image for the model to look at.",
  fields: (t) => ({
    url: t.string({
      required: true,
      description: "An https: address, or a data: URL. Anything else is BAD_USER_INPUT.",
    }),
    detail: t.string({
      description: 'How closely to look: "low", "high" or "auto", as the model\'s provider takes it.',
    }),
  }),
});

export const ContentBlockInput = builder.inputType("ContentBlockInput", {
  description: "One part of a message to be stored: exactly one of its fields.",
  isOneOf: true,
  fields: (t) => ({
    text: t.string({ description: "A piece of text." }),
    image: t.field({ type: ImageBlockInput, description: "An image." }),
    other: t.field({
      type: "JSON",
      description:
        'A block of LangChain\'s as it is, an object with a text `type`: {"type": "file", …}. What OtherBlock.data holds can be given back here.',
    }),
  }),
});

type GivenBlock = typeof ContentBlockInput.$inferInput;

/** A message's content as a caller gives it. */
interface GivenContent {
  readonly text?: string | null | undefined;
  readonly content?: readonly GivenBlock[] | null | undefined;
}

/** `at` names the input for errors, e.g. "input". @throws BAD_USER_INPUT unless there is exactly one of text and content, with something in it. */
export function parseContent(at: string, given: GivenContent): readonly ContentBlock[] {
  const blocks = parseOptionalContent(at, given);
  if (blocks === null) throw badInput(`${at}.text`, "Give the message as text or as content.");
  if (blocks.every((block) => block.kind === "text" && block.text.trim() === "")) {
    const field = typeof given.text === "string" ? "text" : "content";
    throw badInput(`${at}.${field}`, "The message must not be empty.");
  }
  return blocks;
}

/** null: neither text nor content. Both may be empty, as a tool's answer is at times. @throws BAD_USER_INPUT for both at once. */
export function parseOptionalContent(at: string, { text, content }: GivenContent): readonly ContentBlock[] | null {
  const hasText = typeof text === "string";
  if (hasText && content) throw badInput(`${at}.text`, "Give either text or content, not both.");
  if (hasText) return text === "" ? [] : [{ kind: "text", text }];
  return content?.map((block, index) => parseBlock(`${at}.content[${index}]`, block)) ?? null;
}

function parseBlock(at: string, block: GivenBlock): ContentBlock {
  if (typeof block.text === "string") return { kind: "text", text: block.text };
  if (block.image) {
    const { url, detail } = block.image;
    if (!/^(?:https:\/\/\S|data:\S)/i.test(url)) {
      throw badInput(`${at}.image.url`, "An image's url must begin with https: or data:.");
    }
    return { kind: "image", url, detail: detail ?? null };
  }
  const type = typeOfOther(block.other);
  if (type === null) throw badInput(`${at}.other`, 'A block must be an object with a type, such as { type: "file" }.');
  // They have a form of their own here, whose checks this would go around.
  if (type === "text" || type === "image_url") {
    throw badInput(`${at}.other`, "Give text and images as text and image, not as other.");
  }
  return { kind: "other", type, data: block.other };
}

function typeOfOther(value: unknown): string | null {
  const type = isObject(value) ? value["type"] : null;
  return typeof type === "string" && type !== "" ? type : null;
}

/** @throws BAD_USER_INPUT where a caller may not choose it. */
export function parseMessageId(field: string, messageId: string | null | undefined): string | null {
  const given = messageId ?? null;
  if (given !== null && !isMessageId(given)) {
    throw badInput(field, "A messageId has 1 to 128 characters out of A-Z a-z 0-9 . _ and -.");
  }
  return given;
}

/** @throws BAD_USER_INPUT where it is empty or over 128 characters. */
export function parseIdempotencyKey(key: string | null | undefined): string | null {
  const given = key ?? null;
  if (given !== null && (given === "" || given.length > 128)) {
    throw badInput("input.idempotencyKey", "An idempotencyKey has 1 to 128 characters.");
  }
  return given;
}

const ToolCallInput = builder.inputType("ToolCallInput", {
  description: "A tool that the model wanted called.",
  fields: (t) => ({
    callId: t.string({ required: true, description: "What the TOOL message that answers it has as `toolCallId`." }),
    name: t.string({ required: true, description: "The tool's name." }),
    args: t.field({ type: "JSON", required: true, description: "Its arguments: an object." }),
  }),
});

const MessageInput = builder.inputType("MessageInput", {
  description: "A message to be stored as it is, in a form that LangChain reads in every language.",
  fields: (t) => ({
    role: t.field({
      type: MessageRoleRef,
      required: true,
      description: "The role of its author: USER, ASSISTANT, SYSTEM or TOOL. FUNCTION and OTHER are BAD_USER_INPUT.",
    }),
    text: t.string({ description: "The message as text: either this or `content`." }),
    content: t.field({ type: [ContentBlockInput], description: "The message as blocks: either this or `text`." }),
    name: t.string({ description: "The author: an agent's name, for example." }),
    messageId: t.string({
      description:
        "The caller's own id for it, 1 to 128 of A-Z a-z 0-9 . _ - (a UUID is best). Sent again, it gives back the first call's message.",
    }),
    toolCallId: t.string({ description: "TOOL, and required there: the ToolCall.callId that it answers." }),
    toolFailed: t.boolean({ description: "TOOL only: whether the tool failed." }),
    toolCalls: t.field({
      type: [ToolCallInput],
      description: "ASSISTANT only: the tools that the model wanted called.",
    }),
  }),
});

type GivenMessage = typeof MessageInput.$inferInput;

/** Whatever the gateway is set to take (MAX_MESSAGES_PER_ADD). */
const mostMessages = 100_000;
/** A whole message has about 85. */
const valuesOfMessage = 100;

function parseMessages(given: readonly GivenMessage[]): readonly NewMessage[] {
  if (given.length === 0) throw badInput("input.messages", "Give at least one message.");
  const ids = new Set<string>();
  return given.map((message, index) => {
    const at = `input.messages[${index}]`;
    const parsed = parseMessage(at, message);
    if (parsed.messageId !== null && ids.has(parsed.messageId)) {
      throw badInput(`${at}.messageId`, "Two of these messages have the same messageId.");
    }
    if (parsed.messageId !== null) ids.add(parsed.messageId);
    return parsed;
  });
}

function parseMessage(at: string, given: GivenMessage): NewMessage {
  const { role } = given;
  if (role === "FUNCTION" || role === "OTHER") {
    throw badInput(`${at}.role`, "A message that is stored has the role USER, ASSISTANT, SYSTEM or TOOL.");
  }
  const toolCallId = given.toolCallId ?? null;
  const toolFailed = given.toolFailed ?? null;
  const toolCalls = (given.toolCalls ?? []).map(({ callId, name, args }) => ({ callId, name, args }));
  if (role === "TOOL" && (toolCallId === null || toolCallId === "")) {
    throw badInput(`${at}.toolCallId`, "A TOOL message needs the toolCallId that it answers.");
  }
  if (role !== "TOOL" && toolCallId !== null)
    throw badInput(`${at}.toolCallId`, "Only a TOOL message has a toolCallId.");
  if (role !== "TOOL" && toolFailed !== null) throw badInput(`${at}.toolFailed`, "Only a TOOL message has toolFailed.");
  if (role !== "ASSISTANT" && toolCalls.length > 0) {
    throw badInput(`${at}.toolCalls`, "Only an ASSISTANT message has toolCalls.");
  }
  for (const [index, { args }] of toolCalls.entries()) {
    if (!isObject(args)) throw badInput(`${at}.toolCalls[${index}].args`, "A tool's arguments are an object.");
  }
  return {
    role,
    content: parseContentOf(at, given),
    name: given.name ?? null,
    messageId: parseMessageId(`${at}.messageId`, given.messageId),
    toolCallId,
    toolFailed,
    toolCalls,
  };
}

/** A tool may answer nothing, and a model that calls tools need not say anything. */
function parseContentOf(at: string, given: GivenMessage): readonly ContentBlock[] {
  if (given.role === "ASSISTANT" && given.toolCalls?.length) return parseOptionalContent(at, given) ?? [];
  return given.role === "TOOL" ? (parseOptionalContent(at, given) ?? parseContent(at, given)) : parseContent(at, given);
}

const AddMessagesInput = builder.inputType("AddMessagesInput", {
  description: "Messages to put at the end of a history.",
  fields: (t) => ({
    sessionId: t.string({ required: true, description: "Their session; an unknown one is started." }),
    messages: t.field({
      type: [MessageInput],
      required: true,
      description:
        "The messages, oldest first: at least one, and at most 1000 unless the gateway is set otherwise. All or none are stored.",
    }),
    idempotencyKey: t.string({
      description:
        "1 to 128 characters of the caller's own: sent again with it, the first call's messages are given back.",
    }),
  }),
});

interface AddMessagesParent {
  readonly messages: readonly PlacedMessage[];
  readonly session: SessionParent;
}

const AddMessagesPayload = builder.objectRef<AddMessagesParent>("AddMessagesPayload").implement({
  description: "What addMessages answers.",
  fields: (t) => ({
    messages: t.field({
      type: [MessageRef],
      description:
        "The messages as they are stored, in the order in which they were given. A call that is repeated later gives those of the first one that are still where they were.",
      resolve: ({ messages, session }) => messages.map((placed) => new MessageParent(placed, session.readings)),
    }),
    session: t.expose("session", { type: SessionRef, description: "The session after it." }),
  }),
});

builder.mutationField("addMessages", (t) =>
  t.field({
    type: AddMessagesPayload,
    description:
      'Stores messages in one atomic write; no model is called. Errors: BAD_USER_INPUT with the field, e.g. "input.messages[0].role"; NOT_FOUND for another\'s session; LIMIT_REACHED for a new session too many; MESSAGE_ID_REUSED for a messageId with other content.',
    args: { input: t.arg({ type: AddMessagesInput, required: true, description: "The messages and their session." }) },
    extensions: listSize({
      by: "argument",
      argument: "input.messages",
      most: mostMessages,
      free: valuesOfMessage,
    }),
    resolve: async (_root, { input }, context, info) => {
      const { conversations, viewer } = context;
      const add = {
        sessionId: input.sessionId,
        messages: parseMessages(input.messages),
        idempotencyKey: parseIdempotencyKey(input.idempotencyKey),
      };
      const pages = pagesBelow(info);
      const { messages, session } = await conversations.addMessages(viewer, add, requestOf(context, pages));
      return { messages, session: new Readings().give(session, pages) };
    },
  }),
);
