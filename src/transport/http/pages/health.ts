export interface Readiness {
  readonly ok: boolean;
  readonly reason?: string;
  /** What works, but costs a promise. */
  readonly warnings?: readonly string[];
}

/** The process is there and its event loop turns. */
export function healthz(): Response {
  return status(200, { status: "ok" });
}

/** 503 while a load balancer should send its requests elsewhere. */
export async function readyz(draining: boolean, ready: () => Promise<Readiness>): Promise<Response> {
  if (draining) return status(503, { status: "unavailable", reason: "shutting down" });
  try {
    const { ok, reason, warnings = [] } = await ready();
    return ok
      ? status(200, { status: "ok", ...(warnings.length > 0 ? { warnings } : {}) })
      : status(503, { status: "unavailable", reason: reason ?? "not ready" });
  } catch {
    // The cause may hold addresses; whoever is asked logs it.
    return status(503, { status: "unavailable", reason: "the readiness check failed" });
  }
}

function status(code: number, body: Readonly<Record<string, string | readonly string[]>>): Response {
  return Response.json(body, { status: code, headers: { "cache-control": "no-store" } });
}
