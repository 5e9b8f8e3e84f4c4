import { realpath } from "node:fs/promises";
import { lastLines, runCommand, type Environment } from "./command.ts";

/** The folder cannot be had, or nothing can be written into it. */
export class FolderError extends Error {
  override readonly name = "FolderError";
}

/** $1: the folder. For the owner only: conversations and a password are in it. Nor do they belong into a repository that it lies in. */
const script = `set -e
if [ ! -d "$1" ]; then
  (umask 077; mkdir -p -- "$1")
  printf '*\\n' > "$1/.gitignore"
fi
: > "$1/.write-test.$$"
rm -f -- "$1/.write-test.$$"`;

/**
 * Makes the folder where it is missing, sees whether it can be written to, and gives its path without links. By a process
 * of its own, which can be ended: in a file system that hangs, a thread of this one would hang for ever and keep even
 * process.exit() from ending it.
 * @throws {FolderError}
 */
export async function openFolder(path: string, { PATH = "" }: Environment, limitMs = 10_000): Promise<string> {
  const environment = { PATH, LC_ALL: "C" };
  const tried = await runCommand("/bin/sh", ["-c", script, "sh", path], { environment, timeoutMs: limitMs }).catch(
    () => null,
  );
  if (tried === null) throw new FolderError(`does not answer within ${limitMs / 1000} s: ${path}`);
  if (tried.code !== 0) {
    // "mkdir: cannot create directory '…': Permission denied", or the shell's own "sh: 1: cannot create …: …".
    const [, why = "the reason is unknown"] = /([^:]+)\s*$/.exec(lastLines(tried.stderr, 1)) ?? [];
    throw new FolderError(`cannot be written (${why.trim()}): ${path}`);
  }
  return await realpath(path);
}
