import type { Client } from "../client/connection.ts";
import { isUnknownScript } from "../client/sending.ts";
import { scriptText, scriptSha, type ScriptName } from "./texts.ts";

/** A reply of a script: strings, integers and arrays of them. */
export type Reply = string | number | null | readonly Reply[];

export interface ScriptCall {
  readonly name: ScriptName;
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
}

/** Scripts on one connection, by EVALSHA, with EVAL where the server does not know one yet. */
export class Scripts {
  readonly #redis: Client;
  readonly #onFailure: (error: unknown) => void;
  /** Whose text this connection has brought: the first call brings it, without asking whether it is known. */
  readonly #sent = new Set<ScriptName>();

  /** `onFailure`: called with what a script failed with, beside its caller. */
  constructor(redis: Client, onFailure: (error: unknown) => void = () => undefined) {
    this.#redis = redis;
    this.#onFailure = onFailure;
  }

  /** Rejects with what ioredis rejects with; the codes that a script returns are its caller's to read. */
  async run(name: ScriptName, keys: readonly string[], args: readonly (string | number)[]): Promise<readonly Reply[]> {
    try {
      const rest = [keys.length, ...keys, ...args] as const;
      const first = !this.#sent.has(name);
      this.#sent.add(name);
      const asked = first ? this.#redis.eval(scriptText(name), ...rest) : this.#redis.evalsha(scriptSha(name), ...rest);
      const answer = await asked.catch((error: unknown) => {
        if (!isUnknownScript(error)) throw error;
        return this.#redis.eval(scriptText(name), ...rest);
      });
      return answer as readonly Reply[]; // what every script returns
    } catch (error) {
      this.#onFailure(error);
      throw error;
    }
  }
}
