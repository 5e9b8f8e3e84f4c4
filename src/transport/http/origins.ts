import { isIP } from "node:net";
import { anonymous } from "../../conversation/session.ts";
import type { Authenticate, Identify, Identity, RequestHeaders } from "../../operations/identity.ts";

const localHosts: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

export interface OriginPolicy {
  /** null: no list was given. */
  readonly allowed: readonly string[] | null;
  readonly production: boolean;
}

/** Listed; without a list a page from this machine, during development. */
function isListed(origin: string, { allowed, production }: OriginPolicy): boolean {
  if (allowed !== null) return allowed.includes(origin);
  return !production && URL.canParse(origin) && localHosts.has(new URL(origin).hostname);
}

/**
 * Browsers send cookies along with a WebSocket upgrade from any page and ask nobody; the server has to look at Origin.
 * Programs send none and are let in, as is the gateway's own page.
 */
export function mayUpgrade(headers: RequestHeaders, policy: OriginPolicy): boolean {
  const origin = headers.get("origin");
  if (origin === null || isListed(origin, policy)) return true;
  return URL.canParse(origin) && new URL(origin).host === headers.get("host");
}

/**
 * Whether the request says which page it comes from, and that may use the endpoint. Programs say nothing. For a GET to its
 * page's own origin (EventSource) a browser sends no Origin, but Sec-Fetch-Site, which no page can set.
 */
function isKnownPage(headers: RequestHeaders, policy: OriginPolicy): boolean {
  if (headers.get("origin") === null) return headers.get("sec-fetch-site") === "same-origin";
  return mayUpgrade(headers, policy);
}

const everyone: Identity = { viewer: anonymous, expiresAt: null };

/** `authenticate`, which is told whether a page that is let in has sent the request; null: everyone is `anonymous`. */
export function identifyBy(authenticate: Authenticate | null, policy: OriginPolicy): Identify {
  if (authenticate === null) return () => everyone;
  return (headers, connectionParams) =>
    authenticate({ headers, connectionParams, fromKnownPage: isKnownPage(headers, policy) });
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

/** CORS headers for an origin that is let in, echoed exactly; none for anyone else, and none in production without a list. */
export function corsHeaders(headers: RequestHeaders, policy: OriginPolicy): Record<string, string> {
  if (policy.allowed === null && policy.production) return {};
  const origin = headers.get("origin");
  if (origin === null || !isListed(origin, policy)) return { vary: "origin" };
  return {
    vary: "origin",
    "access-control-allow-origin": origin,
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "retry-after, last-event-id",
  };
}

/** What OPTIONS is answered with; a preflight of a page that is not let in with 403. null: another method. */
export function answerOptions(method: string, headers: RequestHeaders, policy: OriginPolicy): Response | null {
  if (method !== "OPTIONS") return null;
  if (headers.get("access-control-request-method") === null) {
    return new Response(null, { status: 204, headers: { allow: allowedMethods } });
  }
  const cors = corsHeaders(headers, policy);
  if (cors["access-control-allow-origin"] === undefined) return new Response(null, { status: 403, headers: cors });
  return new Response(null, {
    status: 204,
    headers: {
      ...cors,
      "access-control-allow-methods": allowedMethods,
      "access-control-allow-headers": headers.get("access-control-request-headers") ?? "content-type",
      "access-control-max-age": "600",
    },
  });
}

/** Of the endpoint. */
export const allowedMethods = "GET, HEAD, POST, OPTIONS";
