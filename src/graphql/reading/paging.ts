import { badInput } from "../../conversation/errors.ts";
import type { PageRequest } from "../../conversation/session.ts";

/** Most items of one page, and what a page has that names neither first nor last. */
export const limits = {
  messages: { most: 200, usual: 50 },
  sessions: { most: 100, usual: 20 },
} as const;

/** Relay's paging arguments. `unknown`, because a lookahead reads them from the document. */
interface PageArguments {
  readonly first?: unknown;
  readonly after?: unknown;
  readonly last?: unknown;
  readonly before?: unknown;
}

/** @throws BAD_USER_INPUT (field "first" or "last") for both, for less than 1 and for over 200. Neither: the last 50. */
export function messagePage(args: PageArguments): PageRequest {
  const page = pageRequest(args, limits.messages.most);
  return page.first === null && page.last === null ? { ...page, last: limits.messages.usual } : page;
}

/** @throws BAD_USER_INPUT (field "first" or "last") for both, for less than 1 and for over 100. Neither: the first 20. */
export function sessionPage(args: PageArguments): PageRequest {
  const page = pageRequest(args, limits.sessions.most);
  return page.first === null && page.last === null ? { ...page, first: limits.sessions.usual } : page;
}

export function samePage(a: PageRequest, b: PageRequest): boolean {
  return a.first === b.first && a.after === b.after && a.last === b.last && a.before === b.before;
}

function pageRequest(args: PageArguments, most: number): PageRequest {
  const first = count("first", args.first, most);
  const last = count("last", args.last, most);
  if (first !== null && last !== null) throw badInput("last", "Give either first or last, not both.");
  return { first, after: textOrNull(args.after), last, before: textOrNull(args.before) };
}

function count(field: "first" | "last", value: unknown, most: number): number | null {
  if (typeof value !== "number") return null;
  if (value < 1 || value > most) throw badInput(field, `${field} must be from 1 to ${most}.`);
  return value;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

interface Edge<Node> {
  readonly cursor: string;
  readonly node: Node;
}

export interface Connection<Node> {
  readonly edges: readonly Edge<Node>[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
}

interface PageFacts {
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  /** Left out: those of the first and the last edge. */
  readonly startCursor?: string | null;
  readonly endCursor?: string | null;
}

export function connectionOf<Node>(edges: readonly Edge<Node>[], page: PageFacts): Connection<Node> {
  return { edges, pageInfo: new PageInfo(edges, page) };
}

/**
 * Its cursors are worked out when they are asked for. A class, not a literal with getters: of such a literal V8 makes a hidden
 * class anew each time, in the old generation, which keeps all that the getters refer to until that is collected.
 */
class PageInfo<Node> {
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  readonly #edges: readonly Edge<Node>[];
  readonly #page: PageFacts;

  constructor(edges: readonly Edge<Node>[], page: PageFacts) {
    this.hasNextPage = page.hasNextPage;
    this.hasPreviousPage = page.hasPreviousPage;
    this.#edges = edges;
    this.#page = page;
  }

  get startCursor(): string | null {
    return this.#page.startCursor ?? this.#edges.at(0)?.cursor ?? null;
  }

  get endCursor(): string | null {
    return this.#page.endCursor ?? this.#edges.at(-1)?.cursor ?? null;
  }
}
