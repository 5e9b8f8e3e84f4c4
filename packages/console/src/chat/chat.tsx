import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { ChatMessage, RunInfo, SessionSnapshot } from "../../../client/src/client.ts";
import { Button } from "../parts/button.tsx";
import { Scroller } from "../parts/scroller.tsx";
import { useStore } from "../store.ts";
import { client } from "../wire/client.ts";
import { ChatHeader } from "./chat-header.tsx";
import { Composer } from "./composer.tsx";
import { Message } from "./message.tsx";
import type { MessageActions } from "./message.tsx";
import { waitsFor } from "./waiting-call.tsx";

interface ChatProps {
  readonly sessionId: string;
  readonly canWrite: boolean;
  readonly open: (sessionId: string) => void;
  readonly inspect: (messageId: string) => void;
  /** Shows what failed. */
  readonly tell: (problem: unknown) => void;
  readonly showSessions: () => void;
  readonly showPanel: () => void;
}

export function Chat({ sessionId, canWrite, open, inspect, tell, showSessions, showPanel }: ChatProps): JSX.Element {
  const store = client.session(sessionId);
  const chat = useStore(store);
  const [sent, setSent] = useState(0);
  const [isAtEnd, setAtEnd] = useState(true);
  const { messages, unread, connection, run } = chat;
  const start = (work: Promise<unknown>) => void work.catch(tell);
  useMarkRead(canWrite && unread > 0 && connection === "live", unread, () => start(store.markRead()));
  // A message that could not be sent says so itself.
  const unsaid = () => undefined;

  const waiting = run?.status === "WAITING" ? run : null;

  const actions: MessageActions = {
    async decide(decision) {
      const answer = store.respond([decision], run?.id);
      start(answer);
      await answer;
      // The buttons that were pressed go.
      if (document.activeElement === document.body)
        document.querySelector<HTMLElement>(".approval button:enabled, .composer textarea")?.focus();
    },
    edit: (id, text) => void store.edit(id, text).catch(unsaid),
    regenerate: (id) => start(store.regenerate(id)),
    fork: (id) => start(store.fork(id).then(open)),
    retry: (id) => start(store.retry(id)),
    drop(message) {
      if (message.status === "failed") store.discard(message.id);
      else {
        const waiting = chat.queued.find(({ userMessageId }) => userMessageId === message.id);
        // Its turn may have come in the meantime: then there is nothing to take out.
        if (waiting !== undefined) start(store.cancel(waiting.id));
      }
    },
  };
  const send = (text: string, choice: Parameters<typeof store.send>[1]) => {
    setSent(sent + 1);
    void store.send(text, choice).catch(unsaid);
  };
  const last = messages.at(-1)?.id;

  return (
    <main class="chat">
      <ChatHeader {...{ chat, store, canWrite, open, start, showSessions, showPanel }} />
      {messages.length === 0 ? (
        <Beginning connection={connection} send={canWrite ? (text) => send(text, {}) : null} />
      ) : (
        <Scroller
          label="Messages"
          items={messages}
          keyOf={({ id }) => id}
          guess={110}
          toEnd={sent}
          onEnd={setAtEnd}
          onTop={() => chat.hasOlder && !chat.loadingOlder && start(store.loadOlder())}
          before={chat.hasOlder && <p class="older">Older messages come as you scroll up.</p>}
          row={(message) => (
            <Message
              {...{ message, inspect }}
              actions={canWrite ? actions : null}
              waitsUntil={message.status === "streaming" ? (run?.waitsUntil ?? null) : null}
              isLast={message.id === last}
            />
          )}
        />
      )}
      {!isAtEnd && <Button icon="down" label="Newest" act={() => setSent(sent + 1)} look="to-end" />}
      <Announcer {...{ messages, connection, waiting }} />
      {canWrite && connection !== "closed" && (
        <Composer
          {...{ sessionId, send }}
          sessionModel={chat.session?.model ?? null}
          isRunning={run !== null}
          stop={() => start(store.cancel())}
        />
      )}
      {!canWrite && (
        <p class="read-only">You may read, but not write: what you signed in with lacks the scope chat:write.</p>
      )}
    </main>
  );
}

const suggestions = ["Hi! I'm Jim.", "What did I just say my name was?"];

interface BeginningProps {
  readonly connection: SessionSnapshot["connection"];
  readonly send: ((text: string) => void) | null;
}

function Beginning({ connection, send }: BeginningProps): JSX.Element {
  if (connection === "connecting") return <div class="beginning" aria-busy="true" />;
  const [title, text] =
    connection === "removed"
      ? ["This session is gone", "It was deleted, or it has expired. A new message starts it again."]
      : connection === "closed"
        ? [
            "This session cannot be opened",
            "It may be another owner’s: an admin sees that it is there, and not what is said in it.",
          ]
        : send === null
          ? ["Nothing was said yet", "Choose a session from the list, or wait: what somebody says is shown at once."]
          : [
              "Say something",
              "The first message starts the session. Each event that follows is in the panel beside it.",
            ];
  return (
    <div class="beginning">
      <h2>{title}</h2>
      <p>{text}</p>
      {send !== null && (connection === "new" || connection === "live") && (
        <div class="suggestions">
          {suggestions.map((suggestion) => (
            <button onClick={() => send(suggestion)}>{suggestion}</button>
          ))}
        </div>
      )}
    </div>
  );
}

/** While the page is seen. */
function useMarkRead(isDue: boolean, unread: number, markRead: () => void): void {
  useEffect(() => {
    if (!isDue) return;
    const mark = () => document.visibilityState === "visible" && markRead();
    mark();
    document.addEventListener("visibilitychange", mark);
    return () => document.removeEventListener("visibilitychange", mark);
  }, [isDue, unread]);
}

interface AnnouncerProps {
  readonly messages: readonly ChatMessage[];
  readonly connection: SessionSnapshot["connection"];
  readonly waiting: RunInfo | null;
}

/** What a screen reader says: a reply once it is whole, not word by word, a call that waits for a decision, and that the connection has gone or come back. */
function Announcer({ messages, connection, waiting }: AnnouncerProps): JSX.Element {
  const newest = messages.findLast(({ role, status }) => role === "ASSISTANT" && status !== "streaming");
  const known = useRef("");
  const wasLive = useRef(false);
  const wasOffline = useRef(false);
  // What was there when the page was opened is read, not announced.
  if (!wasLive.current) known.current = newest?.id ?? "";
  if (connection === "live" || connection === "new") wasLive.current = true;
  if (connection === "offline") wasOffline.current = true;
  const text =
    connection === "offline"
      ? "The connection is lost. It is tried again."
      : waiting !== null
        ? `${waiting.approvals.map(({ name }) => name).join(", ")} ${waitsFor(waiting.approvals)}.`
        : newest !== undefined && newest.id !== known.current
          ? `The assistant says: ${newest.text.slice(0, 400)}`
          : wasOffline.current
            ? "The connection is back."
            : "";
  return (
    <p class="unseen" role="status">
      {text}
    </p>
  );
}
