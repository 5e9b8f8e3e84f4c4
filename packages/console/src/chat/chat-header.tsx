import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { SessionSnapshot, SessionStore } from "../../../client/src/client.ts";
import { Confirm } from "../parts/dialog.tsx";
import { Button } from "../parts/button.tsx";
import { Icon } from "../parts/icon.tsx";
import { SettingsDialog } from "./settings-dialog.tsx";
import { waitsFor } from "./waiting-call.tsx";

interface ChatHeaderProps {
  readonly chat: SessionSnapshot;
  readonly store: SessionStore;
  readonly canWrite: boolean;
  readonly open: (sessionId: string) => void;
  /** Its failure is shown. */
  readonly start: (work: Promise<unknown>) => void;
  readonly showSessions: () => void;
  readonly showPanel: () => void;
}

function nameOf(connection: SessionSnapshot["connection"]): string {
  if (connection === "removed") return "deleted";
  return connection === "offline" ? "offline, trying again" : connection;
}

export function ChatHeader(props: ChatHeaderProps): JSX.Element {
  const { chat, store, canWrite, open, start, showSessions, showPanel } = props;
  const { session, connection, sessionId, run, queued, error } = chat;
  const [dialog, setDialog] = useState<"clear" | "delete" | "settings" | null>(null);
  const close = () => setDialog(null);
  return (
    <header class="chat-header">
      <Button icon="menu" label="Show the sessions" act={showSessions} look="quiet only-narrow" isBare />
      <div class="titles">
        <h1 title={session?.title ?? sessionId}>{session?.title ?? (session === null ? "New chat" : sessionId)}</h1>
        <p>
          <span class={`badge ${connection}`} role="status">
            {nameOf(connection)}
          </span>
          {run?.status === "WAITING" && <span class="badge waiting">{waitsFor(run.approvals)}</span>}
          {run?.status === "RUNNING" && <span class="running">replying with {run.model}</span>}
          {queued.length > 0 && <span>{queued.length} waiting</span>}
          <code>{sessionId}</code>
        </p>
        {error !== null && <p class="error">{error.message}</p>}
      </div>
      {canWrite && session !== null && (
        <Menu>
          <Button icon="settings" label="Settings" act={() => setDialog("settings")} />
          <Button icon="pencil" label="Generate a title" act={() => start(store.generateTitle())} />
          <Button icon="fork" label="Fork the whole chat" act={() => start(store.fork().then(open))} />
          <Button
            icon="archive"
            label={session.archived ? "Take out of the archive" : "Archive"}
            act={() => start(store.update({ archived: !session.archived }))}
          />
          <Button icon="close" label="Clear the history" act={() => setDialog("clear")} />
          <Button icon="trash" label="Delete the session" act={() => setDialog("delete")} />
        </Menu>
      )}
      <Button icon="pulse" label="Show events and operations" act={showPanel} look="quiet only-narrow" isBare />
      {dialog === "settings" && session !== null && <SettingsDialog {...{ store, sessionId, close, start }} />}
      {dialog === "clear" && (
        <Confirm
          title="Clear the history?"
          text="All messages go, for everybody who uses this session, LangChain programs as well. Its settings stay."
          action="Clear the history"
          confirm={() => start(store.clear())}
          close={close}
        />
      )}
      {dialog === "delete" && (
        <Confirm
          title="Delete the session?"
          text="Its messages and its settings go, for everybody who uses it, LangChain programs as well."
          action="Delete the session"
          confirm={() => start(store.delete())}
          close={close}
        />
      )}
    </header>
  );
}

function Menu({ children }: { readonly children: JSX.Element | readonly JSX.Element[] }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const menu = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!isOpen) return;
    const leave = ({ target }: Event) => {
      if (!(target instanceof Node && menu.current?.contains(target))) setOpen(false);
    };
    addEventListener("pointerdown", leave);
    addEventListener("focusin", leave);
    return () => {
      removeEventListener("pointerdown", leave);
      removeEventListener("focusin", leave);
    };
  }, [isOpen]);
  return (
    <div class="menu" ref={menu} onKeyDown={({ key }) => key === "Escape" && setOpen(false)}>
      <button
        class="quiet"
        aria-label="More about this session"
        aria-expanded={isOpen}
        onClick={() => setOpen(!isOpen)}
      >
        <Icon name="more" />
      </button>
      {isOpen && (
        <div class="menu-items" onClick={() => setOpen(false)}>
          {children}
        </div>
      )}
    </div>
  );
}
