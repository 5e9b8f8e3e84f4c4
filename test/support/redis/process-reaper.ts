import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { Socket } from "node:net";

/**
 * Kills test servers and removes their folders when this process ends, however it ends: a shell of its own session
 * reads from a pipe what is alive, and acts when the pipe closes, which also happens at a SIGKILL.
 */
const script = `
  alive=""; folders=""
  while read -r verb value; do
    case "$verb" in
      started) alive="$alive $value " ;;
      ended) alive=$(printf %s "$alive" | sed "s/ $value / /") ;;
      made) folders="$folders $value" ;;
    esac
  done
  for id in $alive; do kill -9 "$id" 2>/dev/null; done
  for folder in $folders; do rm -rf "$folder"; done
`;

let shell: ChildProcess | undefined;

/** `value`: a process id, or a folder without white space in its path. */
export function tellReaper(verb: "started" | "ended" | "made", value: string | number): void {
  if (shell === undefined) {
    shell = spawn("sh", ["-c", script], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    shell.unref();
    const pipe = shell.stdin;
    // Node makes the pipe a socket; it must not keep the test process alive.
    if (pipe instanceof Socket) pipe.unref();
    pipe?.on("error", () => undefined);
  }
  shell.stdin?.write(`${verb} ${value}\n`);
}
