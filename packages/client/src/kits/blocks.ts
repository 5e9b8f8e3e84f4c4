import type { Block } from "../message.ts";

// What each kit needs to know of messages and their blocks.

/** The addresses that a text's citations name, each once. */
export function sourcesIn({ citations = [] }: Extract<Block, { readonly type: "text" }>) {
  const byUrl = new Map(citations.flatMap(({ url, title }) => (url === null ? [] : [[url, title] as const])));
  return [...byUrl].map(([url, title]) => ({ sourceId: url, url, ...(title === null ? {} : { title }) }));
}

/** Of a data: URL. */
export function mimeTypeIn(url: string): string | null {
  return /^data:([^;,]+)/.exec(url)?.[1] ?? null;
}
