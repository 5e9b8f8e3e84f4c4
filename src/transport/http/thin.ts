import { OperationTypeNode, getOperationAST } from "graphql";
import type { DocumentNode, ExecutionArgs, ExecutionResult } from "graphql";
import { processRegularResult } from "graphql-yoga";
import type { FetchAPI } from "graphql-yoga";

import { jsonOfData } from "../../graphql/rendered.ts";
import type { RunDirectly } from "../../operations/direct.ts";
import type { Documents } from "../../operations/documents/documents.ts";
import type { Exchange } from "../../operations/exchange.ts";
import type { RequestHeaders } from "../../operations/identity.ts";
import type { MaskError } from "../../operations/masking.ts";
import { acceptedBy } from "./negotiation.ts";
import type { PersistedOperations } from "../../operations/documents/persisted.ts";
import { isJson, paramsOfBody } from "./request-params.ts";
import type { RequestParams } from "./request-params.ts";

/** A whole response, as much of the platform's as one result needs. */
export class PlainAnswer {
  readonly body: string;
  readonly status: number;
  readonly headers = new Map<string, string>();

  constructor(body: string, init: { readonly status: number; readonly headers: Readonly<Record<string, string>> }) {
    this.body = body;
    this.status = init.status;
    for (const name in init.headers) this.headers.set(name.toLowerCase(), init.headers[name] ?? "");
  }

  toResponse(): Response {
    return new Response(this.body, { status: this.status, headers: [...this.headers] });
  }
}

/** What Yoga's plugins make of GraphQL, as much of it as an operation needs that was parsed and validated before. */
export interface Executor {
  readonly schema: unknown;
  readonly contextFactory: () => unknown;
  readonly execute: (args: ExecutionArgs) => unknown;
}

export interface ThinPathOptions {
  readonly documents: Documents;
  readonly persisted: PersistedOperations;
  readonly direct: RunDirectly;
  readonly executor: (exchange: Exchange, params: RequestParams) => Executor;
  readonly mask: MaskError;
  /** Called with each result, as Yoga calls `onResultProcess`. */
  readonly onResult: (result: ExecutionResult, exchange: Exchange) => void;
}

/** null: it is not for this path, and nothing was done. */
export type ThinPath = (headers: RequestHeaders, body: string, exchange: Exchange) => Promise<PlainAnswer | null>;

// Yoga's own processor decides on status, headers and form; all that it wants to have is a class for the response.
const plainFetch = { Response: PlainAnswer } as unknown as FetchAPI; // of which it uses nothing else

/**
 * The way of most requests: application/json by POST, a document that came before and was found valid, one result. Yoga's
 * plugins do with it what they do with any other; what is left out is the platform's Request and Response, streams and
 * URLs, which cost more than the operation. Whatever is unusual, and all that is wrong, is Yoga's to answer: a document
 * gets in here only when it was let through there.
 */
export function createThinPath(options: ThinPathOptions): ThinPath {
  const { documents, persisted, direct, executor, mask, onResult } = options;

  async function enveloped(
    params: RequestParams,
    document: DocumentNode,
    exchange: Exchange,
  ): Promise<ExecutionResult> {
    try {
      const { schema, contextFactory, execute } = executor(exchange, params);
      const contextValue = await contextFactory();
      const { operationName, variables: variableValues } = params;
      const args = { schema, document, contextValue, variableValues, operationName };
      // Envelop types both as any; a query or mutation without @defer has one result.
      return (await execute(args as ExecutionArgs)) as ExecutionResult;
    } catch (error) {
      return { errors: [mask(error)] };
    }
  }

  return async (headers, body, exchange) => {
    const mediaType = isJson(headers.get("content-type")) ? acceptedBy(headers).json : null;
    if (mediaType === null) return null;
    const params = wellFormed(body, persisted);
    if (params === null) return null;
    const prepared = documents.find(params.query);
    if (prepared === undefined || prepared.deferred || prepared.errors.length > 0) return null;
    const { document } = prepared;
    const { operationName, variables: variableValues } = params;
    const operation = getOperationAST(document, operationName);
    if (!operation || operation.operation === OperationTypeNode.SUBSCRIPTION) return null;

    const known = { document, operation, length: params.query.length };
    const result = (await direct(known, variableValues, exchange)) ?? (await enveloped(params, document, exchange));
    if (result.errors === undefined) {
      return new PlainAnswer(jsonOf(result), { status: 200, headers: headersOf(mediaType) });
    }
    onResult(result, exchange);
    return processRegularResult(result, plainFetch, mediaType) as unknown as PlainAnswer; // what plainFetch makes
  };
}

function jsonOf({ data, ...rest }: ExecutionResult): string {
  if (!data || Object.keys(rest).length > 0) return JSON.stringify({ data, ...rest });
  return `{"data":${jsonOfData(data)}}`;
}

/** As Yoga's processor has them. */
function headersOf(mediaType: string): Readonly<Record<string, string>> {
  return { "content-type": `${mediaType}; charset=utf-8` };
}

function wellFormed(body: string, persisted: PersistedOperations): RequestParams | null {
  try {
    return paramsOfBody(body, persisted);
  } catch {
    return null;
  }
}
