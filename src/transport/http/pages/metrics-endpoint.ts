import { hash, timingSafeEqual } from "node:crypto";

import type { RequestHeaders } from "../../../operations/identity.ts";

/** What GET /metrics answers with; null elsewhere means that there is no such page. */
export interface MetricsSource {
  text(): Promise<string>;
  readonly contentType: string;
  /** Readers must send it as a bearer token; null: everybody who reaches the port may read. */
  readonly token: string | null;
}

export async function metricsPage(method: string, headers: RequestHeaders, source: MetricsSource): Promise<Response> {
  if (source.token !== null && !holdsToken(headers.get("authorization"), source.token)) {
    return new Response("Unauthorized\n", { status: 401, headers: { "www-authenticate": "Bearer" } });
  }
  if (method !== "GET" && method !== "HEAD") {
    return new Response("Method not allowed\n", { status: 405, headers: { allow: "GET, HEAD" } });
  }
  return new Response(await source.text(), {
    headers: { "content-type": source.contentType, "cache-control": "no-store" },
  });
}

/** Compared as hashes: the time that it takes says nothing about the token, not even its length. */
function holdsToken(authorization: string | null, token: string): boolean {
  const [, given] = /^bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
  return given !== undefined && timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Buffer {
  return hash("sha256", text, "buffer");
}
