import { useState } from "react";
import { createRoot } from "react-dom/client";
import { createParleyClient } from "parley-client";
import { ParleyProvider, useParleySession } from "parley-client/react";

function Chat({ sessionId }: { sessionId: string }) {
  const { messages, send } = useParleySession(sessionId, { markRead: true, autoTitle: true });
  const [text, setText] = useState("");
  const submit = () => (void send(text).catch(() => {}), setText("")); // what cannot be sent stands in `messages`, with its error
  return (
    <form action={submit}>
      {messages.map(({ id, role, text }) => (
        <p key={id} data-role={role}>
          {text}
        </p>
      ))}
      <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}

function App() {
  const [client] = useState(() => createParleyClient({ url: "/graphql" }));
  return <ParleyProvider client={client} children={<Chat sessionId="jim" />} />;
}

createRoot(document.getElementById("app")!).render(<App />);
