import { hash } from "node:crypto";

import { graphiqlPage } from "./pages/graphiql.ts";

/** What browsers are told about every answer, whatever it is. */
export interface SecurityHeaders {
  /** Of all that a browser is not to show as a page of its own. */
  readonly plain: Readonly<Record<string, string>>;
  /** Sets what the answer has not set itself. null: done, there is nothing to wait for. */
  add(headers: AnswerHeaders, host: string | null): Promise<void> | null;
}

/** As much of Headers as a Map has, too. */
export interface AnswerHeaders {
  get(name: string): string | null | undefined;
  has(name: string): boolean;
  set(name: string, value: string): unknown;
}

/** `hstsSeconds`: for how long browsers are to come by https alone; null: not told, for nothing here may end TLS. */
export function securityHeaders(hstsSeconds: number | null): SecurityHeaders {
  const common: Readonly<Record<string, string>> = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    // Pages elsewhere that may read an answer ask by CORS, which this leaves alone; as a script or an image nobody gets it.
    "cross-origin-resource-policy": "same-origin",
    // Answers are somebody's own.
    "cache-control": "no-store",
    ...(hstsSeconds === null ? {} : { "strict-transport-security": `max-age=${hstsSeconds}` }),
  };
  const plain = { ...common, "content-security-policy": "default-src 'none'; frame-ancestors 'none'" };
  const page = { ...common, "cross-origin-opener-policy": "same-origin" };
  const set = (headers: AnswerHeaders, values: Readonly<Record<string, string>>): void => {
    for (const name in values) if (!headers.has(name)) headers.set(name, values[name] ?? "");
  };
  return {
    plain,
    add(headers, host) {
      const shown = isPage(headers);
      set(headers, shown ? page : plain);
      return shown ? pagePolicy(host).then((policy) => void headers.set("content-security-policy", policy)) : null;
    },
  };
}

/** What a browser is to show as a page of its own. */
export function isPage(headers: Pick<AnswerHeaders, "get">): boolean {
  return headers.get("content-type")?.startsWith("text/html") === true;
}

let scripts: Promise<string> | null = null;

/** The page brings its scripts within it. */
function scriptHashes(): Promise<string> {
  scripts ??= graphiqlPage().then((html) =>
    [...html.matchAll(/<script>([\s\S]*?)<\/script>/g)]
      .map(([, script = ""]) => `'sha256-${hash("sha256", script, "base64")}'`)
      .join(" "),
  );
  return scripts;
}

/**
 * For GraphiQL: its very scripts and no other; its editor writes styles and works in a worker made of a blob; it talks to
 * nobody but this gateway. Not all browsers take 'self' for a WebSocket, so that is told by the host they have asked.
 */
async function pagePolicy(host: string | null): Promise<string> {
  const sockets = host !== null && /^[\w.:[\]-]+$/.test(host) ? ` ws://${host} wss://${host}` : "";
  return [
    "default-src 'none'",
    `script-src ${await scriptHashes()}`,
    "style-src 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src data:",
    "worker-src blob:",
    `connect-src 'self'${sockets}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
