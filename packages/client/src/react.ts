"use client";
import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import type { ReactNode } from "react";

import type { ParleyClient } from "./client.ts";
import type { PageTool } from "./page-tools.ts";
import type { SessionSeed, SessionSnapshot, SessionStore } from "./session.ts";
import type { SessionFilter, SessionsSnapshot, SessionsStore } from "./sessions.ts";
import type { Store } from "./store.ts";

/** As much of it as is used here: not each program that this is compiled in has the types of a page. */
declare const document: {
  readonly visibilityState: string;
  addEventListener(type: "visibilitychange", listener: () => void): void;
  removeEventListener(type: "visibilitychange", listener: () => void): void;
};

const Client = createContext<ParleyClient | null>(null);

export interface ParleyProviderProps {
  /** Made once, in useState for example: on a server a client of a module would be all users' together. */
  readonly client: ParleyClient;
  readonly children?: ReactNode;
}

export function ParleyProvider({ client, children }: ParleyProviderProps): ReactNode {
  return createElement(Client.Provider, { value: client }, children);
}

export function useParleyClient(): ParleyClient {
  const client = useContext(Client);
  if (client === null) throw new Error("There is no <ParleyProvider> above this component.");
  return client;
}

function useStore<T>({ subscribe, getSnapshot, getServerSnapshot }: Store<T>): T {
  return useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
}

export interface ParleySessionOptions {
  /** Notes messages as read while the page is visible. */
  readonly markRead?: boolean;
  /** Has a title made once the first reply to this page is there, where the session has none. */
  readonly autoTitle?: boolean;
  /** The page's own tools, for as long as this component is there: what is sent gives them, and this tab carries out its calls. */
  readonly tools?: readonly PageTool[] | undefined;
  /** What `client.load` read on the server. */
  readonly seed?: SessionSeed | undefined;
}

export type ParleySession = SessionSnapshot & Omit<SessionStore, keyof Store<SessionSnapshot>>;

/** All that a chat's screen needs, live. The functions stay the same ones between renders. */
export function useParleySession(sessionId: string, options: ParleySessionOptions = {}): ParleySession {
  const { markRead = false, autoTitle = false, tools, seed } = options;
  const store = useParleyClient().session(sessionId, seed);
  const snapshot = useStore(store);
  useMarkRead(store, markRead && snapshot.unread > 0 && snapshot.connection === "live", snapshot.unread);
  useAutoTitle(store, autoTitle, snapshot);
  useEffect(() => {
    if (tools === undefined) return;
    store.setTools(tools);
    return () => store.setTools([]);
  }, [store, tools]);
  return useMemo(() => ({ ...store, ...snapshot }), [store, snapshot]);
}

function useMarkRead(store: SessionStore, isDue: boolean, unread: number): void {
  useEffect(() => {
    if (!isDue) return;
    const mark = () => {
      // What fails, because messages were cut meanwhile for example, is tried with the next message.
      if (document.visibilityState === "visible") store.markRead().catch(() => undefined);
    };
    mark();
    document.addEventListener("visibilitychange", mark);
    return () => document.removeEventListener("visibilitychange", mark);
  }, [store, isDue, unread]);
}

/** By the page that has sent the message: with several tabs each would ask. */
function useAutoTitle(store: SessionStore, isOn: boolean, { messages, run, session }: SessionSnapshot): void {
  const sentTo = useRef<SessionStore | null>(null);
  const last = messages.at(-1);
  useEffect(() => {
    if (last?.status === "sending") sentTo.current = store;
    const isAnswered = run === null && last?.role === "ASSISTANT" && last.status === "stored";
    if (!isOn || sentTo.current !== store || !isAnswered || session === null || session.title !== null) return;
    sentTo.current = null;
    // Without a title the session is as it was.
    store.generateTitle().catch(() => undefined);
  }, [store, isOn, last, run, session]);
}

/** Renders only when what `select` gives is another one: a badge, a title, whether it runs. */
export function useParleySelector<T>(sessionId: string, select: (snapshot: SessionSnapshot) => T): T {
  const store = useParleyClient().session(sessionId);
  // Asked twice about one snapshot it gives the same object, as useSyncExternalStore demands.
  const [get, getOnServer] = useMemo(
    () => [oncePer(select, store.getSnapshot), oncePer(select, store.getServerSnapshot)],
    [select, store],
  );
  return useSyncExternalStore(store.subscribe, get, getOnServer);
}

function oncePer<T>(select: (snapshot: SessionSnapshot) => T, getSnapshot: () => SessionSnapshot): () => T {
  let last: { readonly snapshot: SessionSnapshot; readonly selected: T } | undefined;
  return () => {
    const snapshot = getSnapshot();
    if (last?.snapshot !== snapshot) last = { snapshot, selected: select(snapshot) };
    return last.selected;
  };
}

export function useParleySessions(filter?: SessionFilter): SessionsSnapshot & Pick<SessionsStore, "loadMore"> {
  const store = useParleyClient().sessions(filter);
  const snapshot = useStore(store);
  return useMemo(() => ({ ...snapshot, loadMore: store.loadMore }), [store, snapshot]);
}
