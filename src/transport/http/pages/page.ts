import { hash } from "node:crypto";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

import type { RequestHeaders } from "../../../operations/identity.ts";

/** A page for browsers that comes whole from here: one document, which brings its scripts and asks nobody else for anything. */
export class Page {
  readonly #load: () => Promise<string>;
  readonly #directives: (html: string) => readonly string[];
  #loaded: Promise<Loaded> | null = null;

  /** `load` is called when the page is first asked for. `directives`: what its policy says besides that of all pages. */
  constructor(load: () => Promise<string>, directives: (html: string) => readonly string[]) {
    this.#load = load;
    this.#directives = directives;
  }

  async html(): Promise<string> {
    return (await this.#whole()).html;
  }

  /** The answer that brings the page, as small as its reader takes it, with its policy. It holds nobody's secret. */
  async dress(answer: Response, asked: RequestHeaders): Promise<Response> {
    const { directives, compressed } = await this.#whole();
    const { status, headers } = answer;
    headers.append("vary", "accept-encoding");
    headers.set("content-security-policy", policyOf(directives, asked.get("host")));
    if (!takesGzip(asked.get("accept-encoding"))) return answer;
    headers.set("content-encoding", "gzip");
    return new Response(await compressed(), { status, headers });
  }

  #whole(): Promise<Loaded> {
    this.#loaded ??= this.#load().then(
      (html) => {
        let compressed: Promise<Uint8Array<ArrayBuffer>> | null = null;
        return {
          html,
          directives: [`script-src ${hashesOf(html, "script")}`, ...this.#directives(html)],
          compressed: () => (compressed ??= promisify(gzip)(html).then((bytes) => new Uint8Array(bytes))),
        };
      },
      (error: unknown) => {
        // It may be there when it is asked for again.
        this.#loaded = null;
        throw error;
      },
    );
    return this.#loaded;
  }
}

interface Loaded {
  readonly html: string;
  readonly directives: readonly string[];
  readonly compressed: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** Of each script, or each style, that the document brings within it: these may be used, and no other. */
export function hashesOf(html: string, element: "script" | "style"): string {
  return [...html.matchAll(new RegExp(`<${element}>([\\s\\S]*?)</${element}>`, "g"))]
    .map(([, text = ""]) => `'sha256-${hash("sha256", text, "base64")}'`)
    .join(" ");
}

/**
 * Its very scripts and no other, and nobody to talk to but this gateway. Not all browsers take 'self' for a WebSocket, so
 * that is told by the host they have asked.
 */
function policyOf(directives: readonly string[], host: string | null): string {
  const sockets = host !== null && /^[\w.:[\]-]+$/.test(host) ? ` ws://${host} wss://${host}` : "";
  return [
    "default-src 'none'",
    ...directives,
    `connect-src 'self'${sockets}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

function takesGzip(accepted: string | null): boolean {
  const weightOf = (coding: string) => {
    const entry = new RegExp(`(?:^|,)\\s*${coding}\\s*(?:;\\s*q=([\\d.]+)\\s*)?(?:,|$)`, "i").exec(accepted ?? "");
    return entry === null ? null : Number(entry[1] ?? 1);
  };
  return (weightOf("gzip") ?? weightOf("\\*") ?? 0) > 0;
}
