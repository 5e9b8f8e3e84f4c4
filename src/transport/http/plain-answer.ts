import type { GraphQLError } from "graphql";

import { formatError } from "../../operations/results.ts";

/** A whole answer: as much of the platform's Response as one text needs, which costs more than most operations. */
export class PlainAnswer {
  readonly body: string;
  readonly status: number;
  readonly headers = new Map<string, string>();

  /** `mediaType`: of a text in UTF-8. `headers`: by lower-case name. */
  constructor(status: number, mediaType: string, body: string, headers: Readonly<Record<string, string>> = {}) {
    this.body = body;
    this.status = status;
    this.headers.set("content-type", `${mediaType}; charset=utf-8`);
    for (const name in headers) this.headers.set(name, headers[name] ?? "");
  }

  toResponse(): Response {
    return new Response(this.body, { status: this.status, headers: [...this.headers] });
  }
}

/** For what is refused before an operation is read. */
export function refusalAnswer(error: GraphQLError, mediaType = "application/json"): PlainAnswer {
  const { status = 400, headers = {} } = error.extensions.http ?? {};
  return new PlainAnswer(status, mediaType, JSON.stringify({ errors: [formatError(error)] }), headers);
}
