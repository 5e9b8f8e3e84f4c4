import { useState } from "react";
import { createRoot } from "react-dom/client";
import { Provider, useMutation, useSubscription } from "urql";
import { applyEvent, empty } from "./chat";
import type { Chat } from "./chat";
import { client } from "./client";
import { Live, Send } from "./documents";

function ChatPage({ sessionId }: { sessionId: string }) {
  const [{ data = empty }] = useSubscription(
    { query: Live, variables: { sessionId } },
    (chat: Chat = empty, { sessionEvents }) => applyEvent(chat, sessionEvents),
  );
  const { messages, draft, error } = data;
  const [, send] = useMutation(Send);
  const [text, setText] = useState("");
  const submit = () => {
    void send({ input: { sessionId, text, messageId: crypto.randomUUID() } });
    setText("");
  };
  return (
    <form action={submit}>
      {messages.map(({ id, role, text }) => (
        <p key={id} data-role={role}>
          {text}
        </p>
      ))}
      {draft && <p key={draft.id}>{draft.text}</p>}
      {error && <p role="alert">{error}</p>}
      <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}

createRoot(document.getElementById("app")!).render(
  <Provider value={client}>
    <ChatPage sessionId="jim" />
  </Provider>,
);
