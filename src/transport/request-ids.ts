import { AsyncLocalStorage } from "node:async_hooks";

import { flatUuid } from "../conversation/message/ids.ts";
import type { Telemetry } from "../conversation/ports/telemetry.ts";
import type { RequestHeaders } from "../operations/identity.ts";
import type { Logger } from "../operations/logger.ts";

const current = new AsyncLocalStorage<string>();

/** Whoever stands in front of the gateway may have named the request already; what could be something else is not taken. */
const acceptable = /^[A-Za-z0-9._:-]{1,128}$/;

export function requestIdOf(headers: RequestHeaders): string {
  const given = headers.get("x-request-id");
  return given !== null && acceptable.test(given) ? given : flatUuid();
}

/** All that `work` logs, also later and from what it starts, carries the id. */
export function withRequestId<Result>(requestId: string, work: () => Result): Result {
  return current.run(requestId, work);
}

/**
 * Adds `requestId` to each line that is logged on behalf of a request, and where it is traced the names that OpenTelemetry
 * has for its place: trace_id and span_id.
 */
export function requestLogger(logger: Logger, telemetry: Pick<Telemetry, "here">): Logger {
  const add = (fields: object): object => {
    const requestId = current.getStore();
    const place = telemetry.here();
    if (requestId === undefined && place === null) return fields;
    return {
      ...(requestId === undefined ? {} : { requestId }),
      ...(place === null ? {} : { trace_id: place.traceId, span_id: place.spanId }),
      ...fields,
    };
  };
  return {
    debug: (fields, message) => logger.debug(add(fields), message),
    info: (fields, message) => logger.info(add(fields), message),
    warn: (fields, message) => logger.warn(add(fields), message),
    error: (fields, message) => logger.error(add(fields), message),
  };
}
