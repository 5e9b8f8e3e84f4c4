import { useState } from "react";
import { createRoot } from "react-dom/client";
import { ApolloProvider, useMutation, useSubscription } from "@apollo/client/react";
import { applyEvent, empty } from "./chat";
import { client } from "./client";
import { Live, Send } from "./documents";

function ChatPage({ sessionId }: { sessionId: string }) {
  const [{ messages, draft, error }, setChat] = useState(empty);
  useSubscription(Live, {
    variables: { sessionId },
    fetchPolicy: "no-cache",
    ignoreResults: true,
    onData: ({ data: { data } }) => data && setChat((chat) => applyEvent(chat, data.sessionEvents)),
  });
  const [send] = useMutation(Send);
  const [text, setText] = useState("");
  const submit = () => {
    void send({ variables: { input: { sessionId, text, messageId: crypto.randomUUID() } } });
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
  <ApolloProvider client={client}>
    <ChatPage sessionId="jim" />
  </ApolloProvider>,
);
