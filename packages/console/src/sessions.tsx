import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { SessionFilter, SessionInfo } from "../../client/src/client.ts";
import { addressOf } from "./address.ts";
import { Button } from "./parts/button.tsx";
import { Icon } from "./parts/icon.tsx";
import { shortTime } from "./parts/time.ts";
import { useStore } from "./store.ts";
import { ThemeButton } from "./theme.tsx";
import { client, token } from "./wire/client.ts";
import type { Viewer } from "./wire/client.ts";

interface SessionsProps {
  readonly current: string;
  readonly viewer: Viewer;
  readonly canWrite: boolean;
  readonly open: (sessionId: string) => void;
  readonly begin: () => void;
  readonly close: () => void;
  readonly tell: (problem: unknown) => void;
}

/** A pause in typing, after which is searched. */
const searchMs = 200;

export function Sessions({ current, viewer, canWrite, open, begin, close, tell }: SessionsProps): JSX.Element {
  const [archived, setArchived] = useState(false);
  const [title, setTitle] = useState("");
  const [owner, setOwner] = useState("");
  const isAdmin = viewer.scopes.includes("admin") && token.get() !== null;
  const filter = useMemo<SessionFilter>(
    () => ({
      archived,
      ...(title === "" ? {} : { titleContains: title }),
      ...(owner === "" ? {} : { owner }),
    }),
    [archived, title, owner],
  );
  const store = client.sessions(filter);
  const list = useStore(store);
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      if (event.key !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);

  return (
    <nav class="sessions" aria-label="Sessions">
      <header>
        <span class="brand">
          <Logo />
          Parley
        </span>
        <ThemeButton />
        <Button icon="close" label="Close the list of sessions" act={close} look="quiet only-narrow" isBare />
      </header>
      {canWrite && <Button icon="plus" label="New chat" act={begin} look="begin" />}
      <label class="search">
        <Icon name="search" />
        <input
          ref={search}
          type="search"
          aria-label="Search by title"
          aria-keyshortcuts="Control+K"
          placeholder="Search by title"
          onInput={useLate(setTitle)}
        />
      </label>
      {isAdmin && (
        <label class="search">
          <Icon name="leave" />
          <input
            type="search"
            aria-label="Sessions of another owner"
            placeholder="Another owner"
            onInput={useLate(setOwner)}
          />
        </label>
      )}
      <div class="filters" role="group" aria-label="Which sessions">
        {[false, true].map((one) => (
          <button class="chip" aria-pressed={archived === one} onClick={() => setArchived(one)}>
            {one ? "Archived" : "Active"}
          </button>
        ))}
      </div>
      {list.error !== null && <p class="error">{list.error.message}</p>}
      <ul>
        {list.sessions.map((session) => (
          <li key={session.id}>
            <SessionLink session={session} isCurrent={session.sessionId === current} open={open} />
          </li>
        ))}
      </ul>
      {list.connection === "live" && list.sessions.length === 0 && (
        <p class="empty">
          {title !== "" ? "No title contains that." : archived ? "Nothing is archived." : "No session yet."}
        </p>
      )}
      {list.hasMore && (
        <button class="quiet more" onClick={() => void store.loadMore().catch(tell)}>
          Show older ones
        </button>
      )}
      <footer>
        <span title={viewer.scopes.join(" ")}>{viewer.subject}</span>
        {token.get() !== null && (
          <Button
            icon="leave"
            label="Sign out"
            act={() => {
              token.clear();
              location.reload();
            }}
            look="quiet small"
          />
        )}
      </footer>
    </nav>
  );
}

/** Takes what was typed once the typing pauses. */
function useLate(take: (text: string) => void): (event: { readonly currentTarget: HTMLInputElement }) => void {
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  return ({ currentTarget }) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => take(currentTarget.value.trim()), searchMs);
  };
}

interface SessionLinkProps {
  readonly session: SessionInfo;
  readonly isCurrent: boolean;
  readonly open: (sessionId: string) => void;
}

/** A link, so that a browser opens it in a tab of its own as well. */
function SessionLink({ session, isCurrent, open }: SessionLinkProps): JSX.Element {
  const { sessionId, title, messageCount, readCount, running, waiting, updatedAt } = session;
  const unread = isCurrent ? 0 : messageCount - readCount;
  return (
    <a
      href={addressOf(sessionId)}
      aria-current={isCurrent ? "page" : undefined}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        open(sessionId);
      }}
    >
      <span class="title">{title ?? sessionId}</span>
      <time>{shortTime(updatedAt)}</time>
      <small>
        {messageCount} {messageCount === 1 ? "message" : "messages"}
      </small>
      {waiting ? (
        <span class="waiting">to decide</span>
      ) : (
        running && <span class="dot" role="img" aria-label="replying" />
      )}
      {unread > 0 && (
        <span class="unread">
          {unread > 999 ? "999+" : unread}
          <span class="unseen"> unread</span>
        </span>
      )}
    </a>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M4 6h17a5 5 0 0 1 5 5v3a5 5 0 0 1-5 5h-7l-6 5v-5a4 4 0 0 1-4-4Z" />
      <path d="M28 13v10a3 3 0 0 1-3 3h-1v4l-5-4h-5" />
    </svg>
  );
}
