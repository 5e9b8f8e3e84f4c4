import type { Revocation, Validity } from "./identity.ts";

/** The end of an identity, for what outlives the moment that it was checked in: streams and sockets. */
export interface Expiry {
  /**
   * Whether it is over; `onExpired` was called then. Asked right before something is delivered: a timer may be late, and
   * nothing may go out behind the end.
   */
  passed(): boolean;
  stop(): void;
}

/** The same results, until the expiry has passed: then its `onExpired` has ended whoever reads them. */
export function untilExpiry<Result>(
  results: AsyncIterator<Result, unknown>,
  expiry: Expiry,
): AsyncIterator<Result, unknown> {
  return {
    async next() {
      const result = await results.next();
      return expiry.passed() ? { done: true, value: undefined } : result;
    },
    return: async () => (await results.return?.()) ?? { done: true, value: undefined },
  };
}

/** Node's timers count milliseconds in 31 bits; what is later is looked at again then. */
const longestTimerMs = 2 ** 31 - 1;

/** Of who stays who they are. */
const endless: Expiry = { passed: () => false, stop: () => undefined };

export function watchExpiry(validity: Validity, onExpired: () => void): Expiry {
  const { expiresAt, revocation = null } = validity;
  return expiresAt === null && revocation === null ? endless : watchEnd(expiresAt, revocation, onExpired);
}

function watchEnd(at: number | null, revocation: Revocation | null, onExpired: () => void): Expiry {
  let timer: NodeJS.Timeout | undefined;
  let over = false;

  function passed(): boolean {
    if (!over && (revocation?.revoked === true || (at !== null && Date.now() >= at))) {
      over = true;
      stop();
      onExpired();
    }
    return over;
  }

  function plan(until: number): void {
    timer = setTimeout(
      () => {
        if (!passed()) plan(until);
      },
      Math.min(Math.max(until - Date.now(), 0), longestTimerMs),
    ).unref();
  }

  const unlisten = revocation?.onRevoked(() => void passed());
  function stop(): void {
    clearTimeout(timer);
    unlisten?.();
  }

  if (at !== null) plan(at);
  passed();
  return { passed, stop };
}
