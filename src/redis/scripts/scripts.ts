import type { Client } from "../client/connection.ts";
import { isUnknownScript } from "../client/sending.ts";
import {
  contractOf,
  type AnswerOf,
  type Arg,
  type ArgsOf,
  type PlainScript,
  type Reply,
  type ScriptName,
} from "./contracts.ts";
import { scriptSha, scriptText } from "./texts.ts";

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
  return shapeOf(name).args.flatMap((one) => given[one] ?? []);
}

/** What a script has answered, by name. */
export function answerOf<Name extends ScriptName>(name: Name, reply: readonly Reply[]): AnswerOf<Name> {
  const code = String(reply[0]);
  const names = shapeOf(name).answers.get(code);
  if (!names) throw new TypeError(`The script ${name} answered ${code}`);
  const answer: Record<string, Reply | undefined> = { code };
  for (const [i, one] of names.entries()) answer[one.name] = one.isLast ? reply.slice(i + 1) : reply[i + 1];
  return answer as AnswerOf<Name>; // the names of the contract, whose type is made of the same text
}

interface Shape {
  readonly args: readonly string[];
  /** By code. `isLast`: all that is left, as a list. */
  readonly answers: ReadonlyMap<string, readonly { readonly name: string; readonly isLast: boolean }[]>;
}

const shapes = new Map<ScriptName, Shape>();

/** The contract, taken apart once. */
function shapeOf(name: ScriptName): Shape {
  const known = shapes.get(name);
  if (known) return known;
  const { args, answers } = contractOf(name);
  const words = (text: string) => text.split(" ").filter((word) => word !== "");
  const shape = {
    args: words(args).map((word) => word.replace("...", "")),
    answers: new Map(
      answers.split(" | ").map((one) => {
        const [code = "", ...names] = words(one);
        return [code, names.map((word) => ({ name: word.replace("...", ""), isLast: word.endsWith("...") }))] as const;
      }),
    ),
  };
  shapes.set(name, shape);
  return shape;
}
