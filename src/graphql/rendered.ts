import { roomWith } from "../conversation/recurring.ts";
import type { Session } from "../conversation/session.ts";
import type { Spent } from "./answer-budget.ts";

/** A value of an answer whose JSON is there already. */
export class Rendered {
  readonly text: string;
  /** Of the answer's budget. */
  readonly spent: Spent;

  constructor(text: string, spent: Spent) {
    this.text = text;
    this.spent = spent;
  }

  toJSON(): unknown {
    return JSON.parse(this.text);
  }
}

/** JSON of an answer's data. */
export function jsonOfData(data: object): string {
  const fields = Object.entries(data).map(([key, value]: [string, unknown]) => {
    const text = value instanceof Rendered ? value.text : JSON.stringify(value);
    return `"${key}":${text}`; // a name: nothing in it has to be escaped
  });
  return `{${fields.join()}}`;
}

/** By what an answer is made of a session. */
interface Rendering {
  readonly plan: object;
  /** JSON of the operation's. */
  readonly variables: string;
  readonly rendered: Rendered;
}

const renderings = new WeakMap<Session, readonly Rendering[]>();

/** `plan`: the same object for the same selection. */
export function renderedBefore(session: Session, plan: object, variables: string): Rendered | null {
  const known = renderings.get(session);
  return known?.find((one) => one.plan === plan && one.variables === variables)?.rendered ?? null;
}

/** Kept where there is room for it. */
export function keepRendered(
  session: Session,
  plan: object,
  variables: string,
  value: unknown,
  spent: Spent,
): Rendered {
  const rendered = new Rendered(JSON.stringify(value), spent);
  const known = renderings.get(session) ?? [];
  const size = (one: Rendering) => one.variables.length + one.rendered.text.length;
  const all = [...known, { plan, variables, rendered }];
  if (all.reduce((sum, one) => sum + size(one), 0) <= roomWith(session)) renderings.set(session, all);
  return rendered;
}
