export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

interface Step {
  /** What was done so far, in words. */
  readonly text: string;
  /** The same as a number, for the rate. */
  readonly count: number;
  /** Of the whole, from 0 to 1; null: how much there is is not known. */
  readonly share: number | null;
}

interface Progress {
  show(step: Step): void;
  /** Takes the line away. */
  end(): void;
}

const everyMs = 100;
const barWidth = 20;

/** One line of progress for a long command. Nothing is written where the output is no terminal (a pipe, a log). */
export function createProgress(terminal: Terminal, now: () => number = () => performance.now()): Progress {
  const startedAt = now();
  let shownAt = -Infinity;
  return {
    show(step) {
      const at = now();
      if (terminal.isTTY !== true || at - shownAt < everyMs) return;
      shownAt = at;
      // A line that wraps could not be written over.
      const line = lineOf(step, (at - startedAt) / 1000).slice(0, (terminal.columns ?? 80) - 1);
      terminal.write(`\r\x1b[K${line}`);
    },
    end() {
      if (shownAt !== -Infinity) terminal.write("\r\x1b[K");
      shownAt = -Infinity;
    },
  };
}

function lineOf({ text, count, share }: Step, seconds: number): string {
  const rate = seconds < 1 ? "" : `  ${Math.round(count / seconds)}/s`;
  if (share === null) return `${text}${rate}`;
  const done = Math.min(1, Math.max(0, share));
  const filled = Math.floor(done * barWidth);
  const bar = `[${"#".repeat(filled)}${"-".repeat(barWidth - filled)}] ${String(Math.floor(done * 100)).padStart(3)}%`;
  // Early on it would be a guess.
  const left = seconds < 2 || done < 0.02 || done === 1 ? "" : `, ${leftOf((seconds / done) * (1 - done))}`;
  return `${bar}  ${text}${rate}${left}`;
}

function leftOf(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s left`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min left` : `${Math.round(seconds / 3600)} h left`;
}
