"use client";

import { useState } from "react";
import { createParleyClient } from "parley-client";
import type { SessionSeed } from "parley-client";
import { ParleyProvider, useParleySession } from "parley-client/react";

interface ChatProps {
  sessionId: string;
  seed: SessionSeed;
}

function Messages({ sessionId, seed }: ChatProps) {
  // The first render, on the server too, has the messages of the seed; the stream asks only for what came since.
  const { messages, send } = useParleySession(sessionId, { seed, markRead: true, autoTitle: true });
  const [text, setText] = useState("");
  const submit = () => (void send(text).catch(() => {}), setText(""));
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

export function Chat(props: ChatProps) {
  const [client] = useState(() => createParleyClient({ url: "/graphql" }));
  return <ParleyProvider client={client} children={<Messages {...props} />} />;
}
