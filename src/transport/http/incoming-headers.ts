import type { IncomingHttpHeaders } from "node:http";

import type { RequestHeaders } from "../../operations/identity.ts";

/** The headers of a request as Node has them: by lower-case name, nothing is made of them that nobody asks for. */
export class IncomingHeaders implements RequestHeaders {
  readonly given: IncomingHttpHeaders;

  constructor(given: IncomingHttpHeaders) {
    this.given = given;
  }

  get(name: string): string | null {
    const value: unknown = this.given[name] ?? this.given[name.toLowerCase()];
    if (typeof value === "string") return value;
    // "constructor" and the like are names of headers, too, but of no header that was sent.
    return Array.isArray(value) ? value.join(", ") : null;
  }
}
