import * as documents from "./documents.ts";
import type { OpenSessionRow, PageRow, SessionRow } from "./documents.ts";
import { createSession, pageSize } from "./session.ts";
import type { SessionSeed, SessionStore } from "./session.ts";
import { infoOf } from "./session-info.ts";
import type { SessionInfo, SessionSettings } from "./session-info.ts";
import { createSessions, SessionChanges } from "./sessions.ts";
import type { SessionFilter, SessionsStore } from "./sessions.ts";
import { createTransport } from "./transport.ts";
import type { TransportOptions } from "./transport.ts";

export { ParleyError } from "./error.ts";
export type { RawEvent } from "./link.ts";
export type { Block, ChatMessage, Citation, Content, Role, SentBlock, ToolCall, ToolStatus } from "./message.ts";
export type { BegunCall, PageTool, ToolFunction } from "./page-tools.ts";
export type { Approval, Decision, RunError, RunInfo } from "./run.ts";
export type { SendOptions, SessionSeed, SessionSnapshot, SessionStore } from "./session.ts";
export type { SessionInfo, SessionSettings } from "./session-info.ts";
export type { SessionFilter, SessionsSnapshot, SessionsStore } from "./sessions.ts";
export type { Connection, Store } from "./store.ts";

export interface ParleyClientOptions extends TransportOptions {
  /** Makes the id of a new session of a UUID. With authentication ids must fit `viewer.sessions`, by default `<subject>:*`. */
  readonly newSessionId?: (uuid: string) => string;
}

export interface ParleyClient {
  /** The same store for the same id. Nothing is asked of the gateway before somebody subscribes. */
  readonly session: (sessionId: string, seed?: SessionSeed) => SessionStore;
  readonly sessions: (filter?: SessionFilter) => SessionsStore;
  /** An id for a chat that is still to begin: its first message starts the session. */
  readonly newSessionId: () => string;
  /** What a server renders a session with, and a page goes on from: give it to `session` there. */
  readonly load: (sessionId: string) => Promise<SessionSeed>;
  readonly create: (settings?: SessionSettings & { readonly sessionId?: string }) => Promise<SessionInfo>;
  readonly models: () => Promise<readonly { readonly name: string; readonly isDefault: boolean }[]>;
  readonly viewer: () => Promise<{
    readonly subject: string;
    readonly scopes: readonly string[];
    readonly sessions: readonly string[] | null;
  }>;
  /** Any other operation; it is sent once. The caller says what it selects. */
  readonly request: <T>(query: string, variables?: object) => Promise<T>;
  /** Any other request to the gateway, with the client's headers and token: of an endpoint beside "/graphql". */
  readonly fetch: (path: string, init: RequestInit) => Promise<Response>;
  /** Ends all that goes on. Whoever subscribes afterwards connects again. */
  readonly close: () => void;
}

interface InUse {
  readonly inUse: () => boolean;
  readonly close: () => void;
}

/** So many stores are kept though nobody uses them. On a server, and in a tab that stays open for weeks, more would never end. */
const idleStores = 100;

export function createParleyClient({ newSessionId = (id) => id, ...options }: ParleyClientOptions): ParleyClient {
  const transport = createTransport(options);
  const changes = new SessionChanges(transport);
  const sessions = new Map<string, SessionStore & InUse>();
  const lists = new Map<string, SessionsStore & InUse>();

  function kept<T extends InUse>(stores: Map<string, T>, key: string, make: () => T): T {
    const store = stores.get(key) ?? make();
    stores.delete(key);
    stores.set(key, store);
    const idle = stores.size > idleStores ? [...stores].filter(([, one]) => one !== store && !one.inUse()) : [];
    for (const [old] of idle.slice(0, stores.size - idleStores)) stores.delete(old);
    return store;
  }

  return {
    session: (sessionId, seed) => kept(sessions, sessionId, () => createSession(transport, sessionId, uuid, seed)),
    sessions: (filter = {}) => kept(lists, JSON.stringify(filter), () => createSessions(transport, changes, filter)),
    newSessionId: () => newSessionId(uuid()),
    async load(sessionId) {
      type Loaded = OpenSessionRow & { readonly cursor: string; readonly messages: PageRow };
      const { session } = await transport.request<{ readonly session: Loaded | null }>(documents.load, {
        ...{ sessionId, last: pageSize },
      });
      return { sessionId, session };
    },
    async create(settings = {}) {
      const { createSession: made } = await transport.request<{
        readonly createSession: { readonly session: SessionRow };
      }>(documents.create, { input: { idempotencyKey: uuid(), ...settings } });
      return infoOf(made.session);
    },
    async models() {
      type Models = Awaited<ReturnType<ParleyClient["models"]>>;
      return (await transport.request<{ readonly models: Models }>(documents.models, {})).models;
    },
    async viewer() {
      type Viewer = Awaited<ReturnType<ParleyClient["viewer"]>>;
      return (await transport.request<{ readonly viewer: Viewer }>(documents.viewer, {})).viewer;
    },
    request: (query, variables = {}) => transport.request(query, variables, 1),
    fetch: transport.fetch,
    close() {
      for (const store of [...sessions.values(), ...lists.values()]) store.close();
      transport.close();
    },
  };
}

/** crypto.randomUUID is there in secure contexts alone: not on http://192.168.… */
function uuid(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
