import * as documents from "./documents.ts";
import type { SessionChange, SessionRow } from "./documents.ts";
import { ParleyError } from "./error.ts";
import { infoOf } from "./session-info.ts";
import type { SessionInfo } from "./session-info.ts";
import { createStore } from "./store.ts";
import type { Connection, OwnStore, Store } from "./store.ts";
import type { Sink, Transport } from "./transport.ts";

export interface SessionsSnapshot {
  readonly connection: Connection;
  /** Newest updatedAt first. */
  readonly sessions: readonly SessionInfo[];
  readonly hasMore: boolean;
  readonly error: Error | null;
}

export interface SessionsStore extends Store<SessionsSnapshot> {
  readonly loadMore: () => Promise<void>;
}

export interface SessionFilter {
  /** true: archived ones only; left out: the others only; null: both. */
  readonly archived?: boolean | null;
  readonly titleContains?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** Another subject's sessions; it needs the scope admin. Such a list is not live. */
  readonly owner?: string;
}

type ChangeSink = Sink<SessionChange>;

/** One stream of changes for all lists of a page: a browser has six connections to a host. */
export class SessionChanges {
  readonly #transport: Transport;
  readonly #sinks = new Set<ChangeSink>();
  #stop: (() => void) | null = null;
  #isOpen = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  follow(sink: ChangeSink): () => void {
    this.#sinks.add(sink);
    if (this.#stop === null) this.#open();
    else if (this.#isOpen) sink.next({ __typename: "SessionListOpened" });
    return () => {
      this.#sinks.delete(sink);
      if (this.#sinks.size > 0) return;
      this.#stop?.();
      this.#stop = null;
      this.#isOpen = false;
    };
  }

  #open(): void {
    this.#stop = this.#transport.follow<{ readonly sessionChanged: SessionChange }>(
      documents.sessionChanged,
      () => ({}),
      {
        next: ({ sessionChanged }) => {
          if (sessionChanged.__typename === "SessionListOpened") this.#isOpen = true;
          for (const sink of [...this.#sinks]) sink.next(sessionChanged);
        },
        lost: () => {
          this.#isOpen = false;
          for (const sink of [...this.#sinks]) sink.lost();
        },
        end: (error) => {
          this.#stop = null;
          this.#isOpen = false;
          for (const sink of [...this.#sinks]) sink.end(error);
        },
      },
    );
  }
}

const pageSize = 30;
const mostPerPage = 100;

export function createSessions(
  transport: Transport,
  changes: SessionChanges,
  filter: SessionFilter,
): SessionsStore & Pick<OwnStore<SessionsSnapshot>, "inUse" | "close"> {
  let connection: Connection = "idle";
  let error: Error | null = null;
  let stop: (() => void) | null = null;
  /** As the pages had them. */
  let read: ReadonlyMap<string, SessionInfo> = new Map();
  /** What events have told since the first page was asked for, which is newer. null: it is gone. */
  let told: ReadonlyMap<string, SessionInfo | null> = new Map();
  let endCursor: string | null = null;
  /** Where the pages end, if there are more: what is older will come in its place. */
  let oldest = "";
  let more: Promise<void> | null = null;
  const { set, ...store } = createStore(snapshot(), open, close);

  function snapshot(): SessionsSnapshot {
    const sessions = known()
      .filter((session) => fits(session) && (session.updatedAt ?? "") >= oldest)
      .sort((one, other) => (other.updatedAt ?? "").localeCompare(one.updatedAt ?? ""));
    return { connection, sessions, hasMore: endCursor !== null, error };
  }
  function known(): SessionInfo[] {
    const all = new Map<string, SessionInfo | null>([...read, ...told]);
    return [...all.values()].filter((session) => session !== null);
  }
  const change = () => set(snapshot());

  function fits(session: SessionInfo): boolean {
    const { archived = false, titleContains = "", metadata = {} } = filter;
    return (
      (archived === null || session.archived === archived) &&
      (session.title ?? "").toLowerCase().includes(titleContains.toLowerCase()) &&
      Object.entries(metadata).every(([key, value]) => JSON.stringify(session.metadata[key]) === JSON.stringify(value))
    );
  }

  async function readPage(after: string | null): Promise<void> {
    // Coming back, as many as were shown.
    const first = after === null ? Math.min(Math.max(read.size, pageSize), mostPerPage) : pageSize;
    const { sessions } = await transport.request<{
      readonly sessions: {
        readonly nodes: readonly SessionRow[];
        readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
      };
    }>(documents.sessions, { first, after, filter });
    const page = sessions.nodes.map((row) => [row.id, infoOf(row)] as const);
    read = new Map(after === null ? page : [...read, ...page]);
    endCursor = sessions.pageInfo.hasNextPage ? sessions.pageInfo.endCursor : null;
    oldest = (endCursor !== null && page.at(-1)?.[1].updatedAt) || "";
  }

  async function begin(): Promise<void> {
    read = new Map(known().map((session) => [session.id, session]));
    told = new Map();
    try {
      await readPage(null);
      connection = "live";
      error = null;
    } catch (why) {
      error = why instanceof Error ? why : new ParleyError("UNKNOWN", String(why));
    }
    change();
  }

  function open(): void {
    if (stop !== null) return;
    connection = "connecting";
    if (filter.owner !== undefined) {
      stop = () => undefined;
      void begin();
    } else stop = changes.follow({ next: receive, lost, end });
    change();
  }
  function lost(): void {
    connection = "offline";
    change();
  }
  function end(why: ParleyError | null): void {
    stop = null;
    connection = "closed";
    error = why;
    change();
  }
  function receive(event: SessionChange): void {
    if (event.__typename === "SessionListOpened") return void begin();
    const [id, session] =
      event.__typename === "SessionRemoved" ? [event.removedId, null] : [event.session.id, infoOf(event.session)];
    told = new Map([...told, [id, session]]);
    change();
  }
  function close(): void {
    stop?.();
    stop = null;
    connection = "idle";
    change();
  }

  return {
    ...store,
    loadMore() {
      if (endCursor === null) return Promise.resolve();
      more ??= readPage(endCursor).finally(() => {
        more = null;
        change();
      });
      return more;
    },
  };
}
