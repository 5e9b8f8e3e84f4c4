import type { Revocation } from "../../operations/identity.ts";

/** Credentials that somebody uses right now, by a name of theirs; they are looked at again while they are. */
export class Revocations {
  readonly #states = new Map<string, State>();
  readonly #everyMs: number;
  readonly #look: () => Promise<void>;
  #timer: NodeJS.Timeout | null = null;
  #listeners = 0;

  /** `look` is called every so many ms while anybody listens, and says with keep() what it found. */
  constructor(everyMs: number, look: () => Promise<void>) {
    this.#everyMs = everyMs;
    this.#look = look;
  }

  /** `rights`: what the credentials are good for, in any form that tells a change. */
  of(name: string, rights: string): Revocation {
    const known = this.#states.get(name);
    if (known?.rights === rights) return known.revocation;
    const state = this.#stateOf(rights);
    this.#states.set(name, state);
    // keep() compares with the new rights from here on, and would never end what the old ones opened.
    known?.revoke();
    return state.revocation;
  }

  /** `rightsOf` gives the rights that a name has now, null: none. A client whose rights have changed signs in again. */
  keep(rightsOf: (name: string) => string | null): void {
    for (const [name, state] of this.#states) {
      if (rightsOf(name) === state.rights) continue;
      this.#states.delete(name);
      state.revoke();
    }
  }

  #stateOf(rights: string): State {
    const listeners = new Set<() => void>();
    let revoked = false;
    const revocation: Revocation = {
      get revoked() {
        return revoked;
      },
      onRevoked: (listener) => {
        // Of each call its own: the same function may listen for two sockets.
        const told = () => listener();
        listeners.add(told);
        this.#count(1);
        return () => {
          if (listeners.delete(told)) this.#count(-1);
        };
      },
    };
    const revoke = () => {
      revoked = true;
      for (const told of [...listeners]) told();
    };
    return { rights, revocation, revoke };
  }

  #count(change: 1 | -1): void {
    this.#listeners += change;
    if (this.#listeners > 0) {
      this.#timer ??= setInterval(() => void this.#look(), this.#everyMs).unref();
    } else if (this.#timer !== null) {
      clearInterval(this.#timer);
      this.#timer = null;
    }
  }
}

interface State {
  readonly rights: string;
  readonly revocation: Revocation;
  readonly revoke: () => void;
}
