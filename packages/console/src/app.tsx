import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { ParleyError } from "../../client/src/client.ts";
import { useSessionId } from "./address.ts";
import { Chat } from "./chat/chat.tsx";
import { Panel } from "./panel/panel.tsx";
import type { Tab } from "./panel/panel.tsx";
import { Button } from "./parts/button.tsx";
import { Sessions } from "./sessions.tsx";
import { SignIn } from "./sign-in.tsx";
import { useStore } from "./store.ts";
import { client, newSessionId } from "./wire/client.ts";
import type { Viewer } from "./wire/client.ts";

/** Who looks; first of all it is asked whether they may. */
export function App(): JSX.Element | null {
  const [viewer, setViewer] = useState<Viewer | Error | null>(null);
  useEffect(
    () =>
      void client
        .viewer()
        .then(setViewer, (problem: unknown) => setViewer(problem as Error) /* the client throws no other */),
    [],
  );
  if (viewer === null) return null;
  if (!(viewer instanceof Error)) return <Console viewer={viewer} />;
  if (viewer instanceof ParleyError && viewer.code === "UNAUTHENTICATED") return <SignIn problem={viewer.message} />;
  return (
    <main class="sign-in">
      <div role="alert">
        <h1>The gateway does not answer</h1>
        <p>{viewer.message}</p>
        <button class="primary" onClick={() => location.reload()}>
          Try again
        </button>
      </div>
    </main>
  );
}

function Console({ viewer }: { readonly viewer: Viewer }): JSX.Element {
  const begin = () => newSessionId(viewer);
  const [sessionId, setSessionId] = useSessionId(begin);
  const [drawer, setDrawer] = useState<"sessions" | "panel" | null>(null);
  const [tab, setTab] = useState<Tab>("events");
  const [messageId, setMessageId] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const { error } = useStore(client.session(sessionId));
  const canWrite = viewer.scopes.includes("chat:write");
  const tell = (what: unknown) => setProblem(what instanceof Error ? what.message : String(what));
  const open = (id: string) => {
    setSessionId(id);
    setMessageId(null);
    setDrawer(null);
  };
  useEffect(() => {
    const escape = ({ key }: KeyboardEvent) => key === "Escape" && setDrawer(null);
    addEventListener("keydown", escape);
    return () => removeEventListener("keydown", escape);
  }, []);
  // Who opens one with the keyboard goes on in it.
  useEffect(() => {
    if (drawer !== null) document.querySelector<HTMLElement>(`.${drawer} button`)?.focus();
  }, [drawer]);
  // The token's time is over.
  if (error instanceof ParleyError && error.code === "UNAUTHENTICATED") return <SignIn problem={error.message} />;
  return (
    <div class={`console ${drawer === null ? "" : `${drawer}-open`}`}>
      <Sessions
        {...{ viewer, canWrite, open, tell }}
        current={sessionId}
        begin={() => open(begin())}
        close={() => setDrawer(null)}
      />
      <Chat
        key={sessionId}
        {...{ sessionId, canWrite, open, tell }}
        inspect={(id) => {
          setMessageId(id);
          setTab("inspect");
          setDrawer("panel");
        }}
        showSessions={() => setDrawer("sessions")}
        showPanel={() => setDrawer("panel")}
      />
      <Panel {...{ sessionId, tab, setTab, messageId, canWrite, tell }} close={() => setDrawer(null)} />
      {drawer !== null && <div class="veil" onClick={() => setDrawer(null)} />}
      {problem !== null && (
        <div class="toast" role="alert">
          {problem}
          <Button icon="close" label="Close the notice" act={() => setProblem(null)} isBare />
        </div>
      )}
    </div>
  );
}
