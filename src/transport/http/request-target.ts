import type { IncomingMessage } from "node:http";

/**
 * The path and query of a request's target (RFC 9112, section 3.2): as it was sent, or what stands behind the host where a
 * client sends the whole URL, as to a proxy. null: the request names several hosts.
 */
export function targetOf({ url = "/", headers, rawHeaders }: IncomingMessage): string | null {
  if (hasSeveralHosts(rawHeaders)) return null;
  if (url.startsWith("/")) return url;
  const [, authority, rest = ""] = /^https?:\/\/([^/?#]*)(.*)$/is.exec(url) ?? [];
  if (authority === undefined) return url;
  if (authority.toLowerCase() !== headers.host?.toLowerCase()) return null;
  return rest.startsWith("/") ? rest : `/${rest}`;
}

/** Node takes the first, whoever stands in front perhaps the last. */
function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.toLowerCase() === "host") hosts += 1;
  return hosts > 1;
}
