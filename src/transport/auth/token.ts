import type { Credentials, Identity } from "../../operations/identity.ts";

/** Rejects with a ParleyError: UNAUTHENTICATED, or STORE_UNAVAILABLE where it cannot be told right now. */
export type VerifyToken = (token: string) => Promise<Identity>;

/**
 * The token that a caller shows, in the order of how deliberately it was given: connection_init's payload, the
 * Authorization header, a cookie. A browser sends cookies along from any page, so that one counts only for a page that is
 * known. null: none was shown.
 */
export function tokenOf(
  { headers, connectionParams, fromKnownPage }: Credentials,
  cookie: string | null,
): string | null {
  const given = connectionParams?.["authorization"] ?? connectionParams?.["Authorization"];
  if (typeof given === "string") return bearerOf(given) ?? given.trim();
  const header = headers.get("authorization");
  // Another scheme (Basic, for a proxy in front) shows no token of ours, and no cookie stands in for it.
  if (header !== null) return bearerOf(header);
  return cookie !== null && fromKnownPage ? cookieOf(headers.get("cookie") ?? "", cookie) : null;
}

function bearerOf(authorization: string): string | null {
  return /^\s*Bearer +(\S+)\s*$/i.exec(authorization)?.[1] ?? null;
}

function cookieOf(header: string, name: string): string | null {
  for (const pair of header.split(";")) {
    const at = pair.indexOf("=");
    if (at >= 0 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim() || null;
  }
  return null;
}
