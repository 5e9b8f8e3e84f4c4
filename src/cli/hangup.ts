import { readFileSync, readlinkSync } from "node:fs";

/** The bit of SIGHUP (1) in a mask of /proc. */
const hangupBit = 1n;

/**
 * Whether this process was started so that it outlives its terminal. Node sets a SIGHUP that was ignored (nohup,
 * `trap '' HUP`) back to its default before it runs any code of ours, so what they leave behind is looked at instead:
 * the command that a shell says it has run, the standard input that nohup puts in a terminal's place (/dev/null, opened
 * for writing alone), and a parent that ignores SIGHUP itself.
 */
export function outlivesTerminal(environment: Readonly<Record<string, string | undefined>>, parent: number): boolean {
  return /(^|\/)nohup$/.test(environment["_"] ?? "") || isNohupsInput() || ignoresHangup(parent);
}

function isNohupsInput(): boolean {
  const flags = /^flags:\s*([0-7]+)$/m.exec(textOf("/proc/self/fdinfo/0"))?.[1];
  const writesOnly = flags !== undefined && (Number.parseInt(flags, 8) & 0o3) === 1;
  return writesOnly && isNull();
}

function isNull(): boolean {
  try {
    return readlinkSync("/proc/self/fd/0") === "/dev/null";
  } catch {
    return false;
  }
}

function ignoresHangup(processId: number): boolean {
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(textOf(`/proc/${processId}/status`))?.[1];
  return mask !== undefined && (BigInt(`0x${mask}`) & hangupBit) !== 0n;
}

/** Empty where there is no /proc. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
