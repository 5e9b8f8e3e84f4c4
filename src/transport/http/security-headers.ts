/** What browsers are told about every answer, whatever it is. */
export interface SecurityHeaders {
  /** Of all that a browser is not to show as a page of its own. */
  readonly plain: Readonly<Record<string, string>>;
  /** Sets what the answer has not set itself. A page has a policy of its own. */
  add(headers: AnswerHeaders): void;
}

/** As much of Headers as a Map has, too. */
interface AnswerHeaders {
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
    add(headers) {
      set(headers, isPage(headers) ? page : plain);
    },
  };
}

/** What a browser is to show as a page of its own. */
export function isPage(headers: Pick<AnswerHeaders, "get">): boolean {
  return headers.get("content-type")?.startsWith("text/html") === true;
}
