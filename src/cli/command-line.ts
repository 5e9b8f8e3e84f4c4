import { parseArgs } from "node:util";
import type { NewKey } from "./api-keys.ts";

export interface Adopt {
  readonly kind: "adopt";
  /** null: the one owner there is without authentication. */
  readonly owner: string | null;
  /** A pattern of Redis' SCAN over history keys; null: all. */
  readonly match: string | null;
}

type Command =
  | { readonly kind: "start" }
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "pin-agents" }
  | Misused
  | ({ readonly kind: "add-key" } & NewKey)
  | Adopt;

export interface Misused {
  readonly kind: "misused";
  /** One sentence, or two. */
  readonly message: string;
}

/** Of an error of parseArgs. Behind its first sentence it explains Node's ways with arguments, over several lines. */
export function misusedBy(error: unknown): Misused {
  const text = error instanceof Error ? error.message : String(error);
  const [, first = text] = /^(.*?)(?:\.\s|\n|\.?$)/.exec(text) ?? [];
  return { kind: "misused", message: `${first}.` };
}

/** What is given must not be empty: `--owner "$OWNER"` of a variable that is not set would mean everybody. */
export function emptyOption(values: Readonly<Record<string, unknown>>): Misused | null {
  const [name] = Object.entries(values).find(([, value]) => [value].flat().includes("")) ?? [];
  return name === undefined ? null : { kind: "misused", message: `--${name} must not be empty.` };
}

export function readCommand(args: readonly string[]): Command {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "v" },
        owner: { type: "string" },
        match: { type: "string" },
        subject: { type: "string" },
        scope: { type: "string", multiple: true },
        sessions: { type: "string", multiple: true },
        models: { type: "string", multiple: true },
      },
    });
  } catch (error) {
    return misusedBy(error);
  }
  const { values, positionals } = parsed;
  const [name = "start", ...rest] = positionals;
  if (values.help === true) return { kind: "help" };
  if (values.version === true) return { kind: "version" };
  const empty = emptyOption(values);
  if (empty !== null) return empty;
  const { subject, scope: scopes = [], sessions = [], models = [] } = values;
  const ofKeys = subject !== undefined || scopes.length + sessions.length + models.length > 0;
  if (ofKeys && name !== "keys") {
    return { kind: "misused", message: "--subject, --scope, --sessions and --models belong to parley keys add." };
  }
  if ((values.owner !== undefined || values.match !== undefined) && name !== "adopt") {
    return { kind: "misused", message: "--owner and --match belong to parley adopt." };
  }
  if (name === "keys") {
    if (rest.join() !== "add")
      return {
        kind: "misused",
        message: "The only command for keys is parley keys add. To revoke a key, remove its line from AUTH_KEYS_FILE.",
      };
    if (subject === undefined)
      return { kind: "misused", message: "keys add needs --subject NAME, the owner of the key." };
    return { kind: "add-key", subject, scopes, sessions, models };
  }
  if (name === "agents") {
    return rest.join() === "pin"
      ? { kind: "pin-agents" }
      : { kind: "misused", message: "The only command for agents is parley agents pin." };
  }
  if (rest.length > 0) return { kind: "misused", message: `One command at a time, not also ${rest.join(" ")}.` };
  if (name === "adopt") return { kind: "adopt", owner: values.owner ?? null, match: values.match ?? null };
  if (name !== "start") return { kind: "misused", message: `There is no command ${name}.` };
  return { kind: "start" };
}
