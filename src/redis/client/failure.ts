import { ParleyError, storeUnavailable } from "../../conversation/errors.ts";

/** Replies that say "not now": the server is full, loading, read-only, or moving. */
const passing =
  /^(OOM|LOADING|BUSY|READONLY|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|TRYAGAIN|MISCONF|UNBLOCKED|NOAUTH|ERR max number of clients)/;

/** Errors of a request to Redis as the domain knows them: STORE_UNAVAILABLE where Redis could not be asked, else as they are. */
export function storeError(error: unknown): unknown {
  if (error instanceof ParleyError || !(error instanceof Error)) return error;
  // ioredis' ReplyError: Redis answered. Whatever else it rejects with says that there was no answer.
  if (error.name === "ReplyError" && !passing.test(error.message)) return error;
  if (error.name === "TypeError" || error.name === "RangeError") return error;
  return storeUnavailable(error);
}

export async function guarded<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw storeError(error);
  }
}
