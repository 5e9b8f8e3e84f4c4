import { graphql } from "react-relay";
import type { RecordProxy, RecordSourceSelectorProxy } from "relay-runtime";

/** The newest page, then all that happens: nothing is missed between the two. */
export const live = graphql`
  subscription liveSubscription($sessionId: String!) {
    sessionEvents(sessionId: $sessionId) {
      __typename
      ... on StreamOpened {
        session {
          ...main_session
        }
      }
      ... on HistoryReset {
        session {
          ...main_session
        }
      }
      ... on MessageAdded {
        message {
          id
          position
          role
          text
        }
      }
      ... on ReplyProgress {
        runId
        replyId
        offset
        text
      }
      ... on RunChanged {
        run {
          id
          status
          replyId
          text
          error {
            message
          }
        }
      }
    }
  }
`;

/** Only events change the list, and each of them may come twice without harm. */
export function applyEvent(store: RecordSourceSelectorProxy, sessionId: string): void {
  const event = store.getRootField("sessionEvents");
  const root = store.getRoot();
  const session = root.getLinkedRecord("session", { sessionId });
  switch (event?.getType()) {
    case "StreamOpened": // also after a reconnect: the page is read anew
    case "HistoryReset":
      root.setLinkedRecord(event.getLinkedRecord("session"), "session", { sessionId });
      break;
    case "MessageAdded": {
      const page = session?.getLinkedRecord("messages", { last: 50 });
      const message = event.getLinkedRecord("message");
      if (!page || !message) break;
      const others = (page.getLinkedRecords("nodes") ?? []).filter((one) => one.getDataID() !== message.getDataID());
      page.setLinkedRecords(
        [...others, message].sort((a, b) => positionOf(a) - positionOf(b)),
        "nodes",
      );
      break;
    }
    case "ReplyProgress": {
      const run = store.get(String(event.getValue("runId")));
      const replyId = event.getValue("replyId");
      // An agent's run has a text for each of its messages.
      const before = run?.getValue("replyId") === replyId ? String(run?.getValue("text") ?? "") : "";
      const offset = Number(event.getValue("offset"));
      const more = String(event.getValue("text"));
      if (offset + more.length <= before.length) break;
      run?.setValue(before.slice(0, offset) + more, "text");
      run?.setValue(replyId, "replyId");
      break;
    }
    case "RunChanged": {
      const run = event.getLinkedRecord("run");
      // Others are queued behind the one whose text is shown, and may end there.
      const isOther = isActive(session?.getLinkedRecord("activeRun")) && !isActive(run);
      if (!isOther && run?.getValue("status") !== "QUEUED") session?.setLinkedRecord(run, "activeRun");
    }
  }
}

const isActive = (run: RecordProxy | null | undefined) =>
  ["RUNNING", "WAITING"].includes(String(run?.getValue("status")));

const positionOf = (message: RecordProxy) => Number(message.getValue("position"));
