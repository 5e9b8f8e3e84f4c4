import { useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@tanstack/ai-react";
import { connection } from "./connection";

function Chat({ threadId }: { threadId: string }) {
  const { messages, sendMessage, error } = useChat({ threadId, connection, persistence: true });
  const [text, setText] = useState("");
  const submit = () => (void sendMessage(text), setText(""));
  return (
    <form action={submit}>
      {messages.map(({ id, role, parts }) => (
        <p key={id} data-role={role}>
          {parts.map((part) => (part.type === "text" ? part.content : null))}
        </p>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}

createRoot(document.getElementById("app")!).render(<Chat threadId="jim" />);
