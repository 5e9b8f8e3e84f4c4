/** A refusal of the gateway, or a request that did not reach it. `code` is GraphQL's extensions.code. */
export class ParleyError extends Error {
  override readonly name = "ParleyError";
  readonly code: string;
  readonly extensions: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, extensions: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.code = code;
    this.extensions = extensions;
  }
}

/** A GraphQL result, as it comes over the wire. */
export interface Answer {
  readonly data?: unknown;
  readonly errors?: readonly { readonly message: string; readonly extensions?: Readonly<Record<string, unknown>> }[];
}

/** Of several errors the first one: the gateway refuses a whole operation with one. */
export function errorOf(errors: Answer["errors"] = []): ParleyError {
  const { message = "The gateway gave no answer.", extensions = {} } = errors[0] ?? {};
  const { code } = extensions;
  return new ParleyError(typeof code === "string" ? code : "UNKNOWN", message, extensions);
}

/** What says that the same request may succeed later. */
const passing = new Set([
  "UNREACHABLE",
  "OVERLOADED",
  "STORE_UNAVAILABLE",
  "LIMIT_REACHED",
  "RATE_LIMITED",
  "INTERNAL_SERVER_ERROR",
]);

export function isPassing({ code }: ParleyError): boolean {
  return passing.has(code);
}

/** How long to wait before another try: what the gateway asked for, else 0.3 to 10 s, with jitter for many clients lose a gateway in one moment. */
export function waitMs(tries: number, error?: ParleyError): number {
  const asked = error?.extensions["retryAfterSeconds"];
  return typeof asked === "number" ? asked * 1000 : Math.min(10_000, 400 * 2 ** tries) * (0.75 + Math.random() / 2);
}
