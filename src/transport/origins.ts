import { isIP } from "node:net";

import type { RequestHeaders } from "./exchange.ts";

const localHosts: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

export interface OriginPolicy {
  /** null: no list was given. */
  readonly allowed: readonly string[] | null;
  readonly production: boolean;
}

/**
 * Browsers send cookies along with a WebSocket upgrade from any page and ask nobody; the server has to look at Origin.
 * Programs send none and are let in. Without a list a page from this machine may connect during development.
 */
export function mayUpgrade(headers: RequestHeaders, policy: OriginPolicy): boolean {
  const origin = headers.get("origin");
  if (origin === null) return true;
  if (policy.allowed?.includes(origin) === true) return true;
  if (!URL.canParse(origin)) return false;
  const url = new URL(origin);
  if (url.host === headers.get("host")) return true;
  return policy.allowed === null && !policy.production && localHosts.has(url.hostname);
}

/**
 * Whether the request says which page it comes from, and that may use the endpoint. Programs say nothing. For a GET to its
 * page's own origin (EventSource) a browser sends no Origin, but Sec-Fetch-Site, which no page can set.
 */
export function isKnownPage(headers: RequestHeaders, policy: OriginPolicy): boolean {
  if (headers.get("origin") === null) return headers.get("sec-fetch-site") === "same-origin";
  return mayUpgrade(headers, policy);
}

/**
 * Whether the client means this machine, or a name that was listed. A page whose own name was made to resolve to 127.0.0.1
 * (DNS rebinding) is of the same origin for its browser, and only Host still tells its name. Programs may send none.
 */
function namesThisMachine(host: string | null, allowed: readonly string[] | null, listed: readonly string[]): boolean {
  if (host === null) return true;
  const url = `http://${host}`;
  if (!URL.canParse(url)) return false;
  const { hostname } = new URL(url);
  if (hostname === "localhost" || hostname.endsWith(".localhost")) return true;
  // An address cannot be made to mean another machine.
  if (hostname.startsWith("[") || isIP(hostname) !== 0) return true;
  if (listed.includes(hostname)) return true;
  return (allowed ?? []).some((origin) => URL.canParse(origin) && new URL(origin).hostname === hostname);
}

const mostNames = 100;

/**
 * The same for many requests: clients call a machine by few names, and a URL is dear to parse. `listed`: host names
 * beside those of the origins.
 */
export function machineNames(
  allowed: readonly string[] | null,
  listed: readonly string[],
): (host: string | null) => boolean {
  const known = new Map<string | null, boolean>();
  return (host) => {
    const before = known.get(host);
    if (before !== undefined) return before;
    const ours = namesThisMachine(host, allowed, listed);
    if (ours && known.size < mostNames) known.set(host, ours);
    return ours;
  };
}

/** CORS headers for a listed origin, echoed exactly; none without a list, and none for anyone else. */
export function corsHeaders(headers: RequestHeaders, allowed: readonly string[] | null): Record<string, string> {
  if (allowed === null) return {};
  const origin = headers.get("origin");
  if (origin === null || !allowed.includes(origin)) return { vary: "origin" };
  return {
    vary: "origin",
    "access-control-allow-origin": origin,
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "retry-after",
  };
}

/** The answer to a preflight, or null where the request is none or CORS is off. */
export function preflight(method: string, headers: RequestHeaders, allowed: readonly string[] | null): Response | null {
  if (allowed === null || method !== "OPTIONS" || headers.get("access-control-request-method") === null) return null;
  const cors = corsHeaders(headers, allowed);
  if (cors["access-control-allow-origin"] === undefined) return new Response(null, { status: 403, headers: cors });
  return new Response(null, {
    status: 204,
    headers: {
      ...cors,
      "access-control-allow-methods": "GET, POST",
      "access-control-allow-headers": headers.get("access-control-request-headers") ?? "content-type",
      "access-control-max-age": "600",
    },
  });
}
