import { useState } from "react";
import { createRoot } from "react-dom/client";
import { createParleyClient } from "parley-client";
import { useParleyChat } from "parley-client/ai-sdk/react";
import { ParleyProvider } from "parley-client/react";

function Chat({ sessionId }: { sessionId: string }) {
  // What useChat gives, over the session: with its history, and live from every tab.
  const { messages, sendMessage, status, stop, error } = useParleyChat(sessionId, { markRead: true, autoTitle: true });
  const [text, setText] = useState("");
  const submit = () => (void sendMessage({ text }), setText(""));
  return (
    <form action={submit}>
      {messages.map(({ id, role, parts }) => (
        <article key={id}>
          {parts.map((part, index) => {
            if (part.type === "reasoning") return <details key={index}>{part.text}</details>;
            if (part.type !== "text") return null;
            return (
              <p key={index} data-role={role}>
                {part.text}
              </p>
            );
          })}
        </article>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
      {(status === "submitted" || status === "streaming") && (
        <button type="button" onClick={() => void stop()}>
          Stop
        </button>
      )}
    </form>
  );
}

function App() {
  const [client] = useState(() => createParleyClient({ url: "/graphql" }));
  return <ParleyProvider client={client} children={<Chat sessionId="jim" />} />;
}

createRoot(document.getElementById("app")!).render(<App />);
