import type { MessageContent } from "../../../src/conversation/message/message.ts";

/** What a row says that says nothing: tests name what is different. */
export const nothing: MessageContent = {
  messageId: null,
  role: "OTHER",
  text: "",
  content: [],
  toolCalls: [],
  toolCallId: null,
  toolFailed: null,
  name: null,
  createdAt: null,
  finishReason: null,
  usage: null,
  origin: null,
};

/** One block of text. */
export const says = (text: string): Partial<MessageContent> => ({ text, content: [{ kind: "text", text }] });
