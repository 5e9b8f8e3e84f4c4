"use client";
import { Chat, useChat } from "@ai-sdk/react";
import type { UseChatHelpers } from "@ai-sdk/react";
import { convertFileListToFileUIParts } from "ai";
import type { ChatStatus } from "ai";
import { useEffect, useMemo } from "react";

import type { ParleyClient } from "../client.ts";
import type { ChatMessage } from "../message.ts";
import { useParleyClient, useParleySession } from "../react.ts";
import type { ParleySession, ParleySessionOptions } from "../react.ts";
import type { SessionSnapshot, SessionStore } from "../session.ts";
import { answerAgain, createParleyTransport, sendOptionsOf } from "./ai-sdk.ts";
import { decisionOf, toContent, toUIMessages } from "./ui-message.ts";
import type { ParleyUIMessage } from "./ui-message.ts";
import { broughtAs, waitsForSomebody } from "./waiting.ts";

/** A Chat of the AI SDK whose messages and status are the session's, whoever writes them. */
class ParleyChat extends Chat<ParleyUIMessage> {
  readonly #store: SessionStore;
  #shown: readonly ChatMessage[];
  /** Why what was asked for last was refused, where no message says so. */
  #refusal: Error | undefined;
  /** The failed message whose error the user has dismissed. */
  #dismissed: ChatMessage | undefined;

  constructor(client: ParleyClient, store: SessionStore) {
    const { messages } = store.getSnapshot();
    super({ id: store.sessionId, transport: createParleyTransport(client), messages: toUIMessages(messages) });
    this.#store = store;
    this.#shown = messages;

    this.sendMessage = (message, { body } = {}) =>
      this.#ask(async () => {
        if (message === undefined) throw new Error("There is no message to send.");
        const content = toContent({ parts: await partsOf(message) });
        const options = sendOptionsOf(body);
        if (message.messageId === undefined) await store.send(content, options);
        else await store.edit(message.messageId, content, options);
      });
    this.regenerate = ({ messageId, body } = {}) =>
      this.#ask(async () => {
        await answerAgain(store, messageId, sendOptionsOf(body));
      });
    // For everybody, everywhere. Leaving the page stops nothing.
    this.stop = () => this.#ask(() => store.cancel());
    // The session is followed already.
    this.resumeStream = () => Promise.resolve();
    this.clearError = () => {
      this.#dismissed = store.getSnapshot().messages.at(-1);
      this.#refusal = undefined;
      this.#look();
    };
    this.addToolApprovalResponse = ({ id, approved, reason }) =>
      this.#ask(async () => {
        await store.respond([decisionOf(id, approved, reason)]);
      });
    this.addToolOutput = ({ toolCallId, state, output, errorText }) =>
      this.#ask(async () => {
        const isError = state === "output-error";
        await store.runTool(toolCallId, broughtAs(isError ? errorText : output, isError));
      });
    // Its old name, by which Chat would only change the message.
    Object.assign(this, { addToolResult: this.addToolOutput });
  }

  readonly follow = (): (() => void) => {
    const leave = this.#store.subscribe(() => this.#look());
    this.#look();
    return leave;
  };

  /** As with useChat, what fails is told by `error` and rejects nothing. */
  async #ask(work: () => Promise<void>): Promise<void> {
    this.#refusal = undefined;
    try {
      await work();
    } catch (error) {
      this.#refusal = error instanceof Error ? error : new Error(String(error));
    }
    this.#look();
  }

  #look(): void {
    const snapshot = this.#store.getSnapshot();
    if (snapshot.messages !== this.#shown) {
      this.#shown = snapshot.messages;
      this.messages = toUIMessages(snapshot.messages);
    }
    const last = snapshot.messages.at(-1);
    const failed = last?.status === "failed" && last !== this.#dismissed ? last.error : null;
    const refusal = this.#refusal ?? snapshot.error ?? undefined;
    const error =
      failed === null ? refusal : failed.message === this.error?.message ? this.error : new Error(failed.message);
    const status = statusOf(snapshot) ?? (error === undefined ? "ready" : "error");
    this.setStatus({ status, ...(status === "error" && error !== undefined ? { error } : {}) });
  }
}

/** null: nothing goes on, or it waits for somebody. */
function statusOf(snapshot: SessionSnapshot): ChatStatus | null {
  if (waitsForSomebody(snapshot)) return null;
  const { messages, run } = snapshot;
  if (
    messages.some(({ status, content, toolCalls }) => status === "streaming" && content.length + toolCalls.length > 0)
  )
    return "streaming";
  return run !== null || messages.some(({ status }) => status === "sending") ? "submitted" : null;
}

type Sent = NonNullable<Parameters<Chat<ParleyUIMessage>["sendMessage"]>[0]>;

async function partsOf(message: Sent): Promise<ParleyUIMessage["parts"]> {
  if (message.parts !== undefined) return message.parts;
  const { files } = message;
  const text = "text" in message ? message.text : "";
  return [
    ...(Array.isArray(files) ? files : await convertFileListToFileUIParts(files)),
    ...(text === "" ? [] : [{ type: "text" as const, text }]),
  ];
}

const chats = new WeakMap<SessionStore, ParleyChat>();

export type ParleyChatHelpers = UseChatHelpers<ParleyUIMessage> &
  Pick<ParleySession, "loadOlder" | "hasOlder" | "loadingOlder" | "connection" | "session" | "queued">;

/** useChat over a session: with its history, live from every tab, with older pages, and a stop for all. */
export function useParleyChat(sessionId: string, options?: ParleySessionOptions): ParleyChatHelpers {
  const client = useParleyClient();
  const { loadOlder, hasOlder, loadingOlder, connection, session, queued } = useParleySession(sessionId, options);
  const store = client.session(sessionId);
  const chat = useMemo(() => {
    const one = chats.get(store) ?? new ParleyChat(client, store);
    chats.set(store, one);
    return one;
  }, [client, store]);
  useEffect(chat.follow, [chat]);
  return { ...useChat({ chat }), loadOlder, hasOlder, loadingOlder, connection, session, queued };
}
