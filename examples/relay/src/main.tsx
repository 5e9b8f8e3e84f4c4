import { useMemo, useState } from "react";
import { createRoot } from "react-dom/client";
import {
  graphql,
  RelayEnvironmentProvider,
  useFragment,
  useLazyLoadQuery,
  useMutation,
  useSubscription,
} from "react-relay";
import type { liveSubscription } from "./__generated__/liveSubscription.graphql";
import type { main_session$key } from "./__generated__/main_session.graphql";
import type { mainQuery } from "./__generated__/mainQuery.graphql";
import type { mainSendMutation } from "./__generated__/mainSendMutation.graphql";
import { environment } from "./environment";
import { applyEvent, live } from "./live";

function Chat({ sessionId }: { sessionId: string }) {
  useSubscription<liveSubscription>(
    useMemo(
      () => ({
        subscription: live,
        variables: { sessionId },
        updater: (store) => applyEvent(store, sessionId),
      }),
      [sessionId],
    ),
  );
  // The subscription brings the page, too, so the query reads what it has put into the store.
  const { session } = useLazyLoadQuery<mainQuery>(
    graphql`
      query mainQuery($sessionId: String!) {
        session(sessionId: $sessionId) {
          ...main_session
        }
      }
    `,
    { sessionId },
    { fetchPolicy: "store-only" },
  );
  const [send] = useMutation<mainSendMutation>(graphql`
    mutation mainSendMutation($input: SendMessageInput!) {
      sendMessage(input: $input) {
        run {
          id
        }
      }
    }
  `);
  const [text, setText] = useState("");
  const submit = () => {
    send({ variables: { input: { sessionId, text, messageId: crypto.randomUUID() } } });
    setText("");
  };
  return (
    <form action={submit}>
      {session && <Messages session={session} />}
      <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}

function Messages({ session }: { session: main_session$key }) {
  const { messages, activeRun } = useFragment(
    graphql`
      fragment main_session on Session {
        messages(last: 50) {
          nodes {
            id
            position
            role
            text
          }
        }
        activeRun {
          id
          status
          replyId
          text
          error {
            message
          }
        }
      }
    `,
    session,
  );
  const isStored = messages.nodes.some(({ id }) => id === activeRun?.replyId);
  const isActive = activeRun?.status === "RUNNING" || activeRun?.status === "WAITING";
  return (
    <>
      {messages.nodes.map(({ id, role, text }) => (
        <p key={id} data-role={role}>
          {text}
        </p>
      ))}
      {isActive && !isStored && <p key={activeRun.replyId}>{activeRun.text}</p>}
      {activeRun?.error && <p role="alert">{activeRun.error.message}</p>}
    </>
  );
}

createRoot(document.getElementById("app")!).render(
  <RelayEnvironmentProvider environment={environment}>
    <Chat sessionId="jim" />
  </RelayEnvironmentProvider>,
);
