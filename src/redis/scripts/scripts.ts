import type { Client } from "../client/connection.ts";
import { isUnknownScript } from "../client/sending.ts";
import { type AnswerOf, type Arg, type ArgsOf, type PlainScript, type Reply, type ScriptName } from "./contracts.ts";
import { scriptOf } from "./texts.ts";

export interface ScriptCall {
  readonly name: ScriptName;
  readonly keys: readonly string[];
  /** In the order of the contract. */
  readonly args: readonly Arg[];
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
  async run({ name, keys, args }: ScriptCall): Promise<readonly Reply[]> {
    try {
      const { text, sha } = scriptOf(name);
      const rest = [keys.length, ...keys, ...args] as const;
      const first = !this.#sent.has(name);
      this.#sent.add(name);
      const asked = first ? this.#redis.eval(text, ...rest) : this.#redis.evalsha(sha, ...rest);
      const answer = await asked.catch((error: unknown) => {
        if (!isUnknownScript(error)) throw error;
        return this.#redis.eval(text, ...rest);
      });
      return answer as readonly Reply[]; // what every script returns
    } catch (error) {
      this.#onFailure(error);
      throw error;
    }
  }

  /** A script over keys of its own. */
  async call<Name extends PlainScript>(
    name: Name,
    keys: readonly string[],
    args: ArgsOf<Name>,
  ): Promise<AnswerOf<Name>> {
    return answerOf(name, await this.run({ name, keys, args: ordered(name, args) }));
  }
}

/** Arguments in the order that the script takes them. */
export function ordered<Name extends ScriptName>(name: Name, args: ArgsOf<Name>): readonly Arg[] {
  const given = args as Readonly<Record<string, Arg | readonly Arg[]>>; // ArgsOf has a value for each name of the contract
  return scriptOf(name).args.flatMap((one) => given[one.replace("...", "")] ?? []);
}

/** What a script has answered, by name. */
export function answerOf<Name extends ScriptName>(name: Name, [code, ...values]: readonly Reply[]): AnswerOf<Name> {
  const names = scriptOf(name).answers.get(String(code));
  if (!names) throw new TypeError(`The script ${name} answered ${String(code)}`);
  const answer: Record<string, Reply | undefined> = { code: String(code) };
  names.forEach((one, i) => {
    if (one.endsWith("...")) answer[one.slice(0, -3)] = values.slice(i);
    else answer[one] = values[i];
  });
  return answer as AnswerOf<Name>; // the names of the contract, whose type is made of the same text
}
