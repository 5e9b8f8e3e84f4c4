import { patternsProblem, scopes as knownScopes, signedInProblem } from "../conversation/conversations/access.ts";
import { addKey, readKeyFile } from "../transport/auth/key-file.ts";

export interface NewKey {
  readonly subject: string;
  /** Empty: chat:read and chat:write. */
  readonly scopes: readonly string[];
  /** Empty: ids that begin with "<subject>:". */
  readonly sessions: readonly string[];
  /** Empty: all. */
  readonly models: readonly string[];
}

/** What is wrong with what was asked for, or null. */
export function newKeyProblem({ subject, scopes, sessions, models }: NewKey): string | null {
  const names: readonly string[] = knownScopes;
  const unknown = scopes.find((scope) => !names.includes(scope));
  if (unknown !== undefined) return `There is no scope ${unknown}. There are ${names.join(", ")}.`;
  const problem = signedInProblem(subject);
  if (problem !== null) return `--subject ${problem}.`;
  for (const [name, patterns] of Object.entries({ sessions, models })) {
    const wrong = patternsProblem(patterns);
    if (wrong !== null) return `--${name} ${wrong}.`;
  }
  return null;
}

/** What is wrong with the file of keys, so that some or all keys in it would be refused; null: nothing. */
export async function keyFileProblem(file: string): Promise<string | null> {
  try {
    const { problems } = await readKeyFile(file);
    return problems.length === 0 ? null : `has mistakes: ${problems.join("; ")}`;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "it is no text";
    return `cannot be read (${code}). parley keys add --subject NAME makes it`;
  }
}

/** Appends the key's hash to the file. The answer is the key itself, which is kept nowhere. */
export function makeKey(file: string, { subject, scopes, sessions, models }: NewKey): Promise<string> {
  return addKey(file, {
    subject,
    scopes: scopes.length === 0 ? ["chat:read", "chat:write"] : scopes,
    sessions: sessions.length === 0 ? null : sessions,
    models: models.length === 0 ? null : models,
  });
}
