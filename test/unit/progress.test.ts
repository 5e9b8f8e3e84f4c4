import { expect, test } from "vitest";
import { createProgress } from "../../src/cli/progress.ts";

function terminal(isTTY: boolean, columns = 80) {
  const written: string[] = [];
  return { written, isTTY, columns, write: (text: string) => written.push(text) };
}

test("shows a bar, the amount, the rate and the time left if the total is known", () => {
  const screen = terminal(true);
  let now = 0;
  const progress = createProgress(screen, () => now);
  progress.show({ text: "1 sessions, 10 messages", count: 10, share: 0 });
  now = 10_000;
  progress.show({ text: "50 sessions, 5000 messages", count: 5000, share: 0.25 });
  now = 40_000;
  progress.show({ text: "200 sessions, 20000 messages", count: 20_000, share: 1.5 });
  progress.end();
  expect(screen.written).toEqual([
    "\r\x1b[K[--------------------]   0%  1 sessions, 10 messages",
    "\r\x1b[K[#####---------------]  25%  50 sessions, 5000 messages  500/s, 30 s left",
    "\r\x1b[K[####################] 100%  200 sessions, 20000 messages  500/s",
    "\r\x1b[K",
  ]);
});

test("shows a count and a rate if the total is not known", () => {
  const screen = terminal(true);
  let now = 0;
  const progress = createProgress(screen, () => now);
  now = 2000;
  progress.show({ text: "7 sessions", count: 7, share: null });
  expect(screen.written).toEqual(["\r\x1b[K7 sessions  4/s"]);
});

test("writes at most ten times a second, and never more than the width of the terminal", () => {
  const screen = terminal(true, 30);
  let now = 0;
  const progress = createProgress(screen, () => now);
  for (; now < 1000; now += 10) progress.show({ text: "x".repeat(100), count: now, share: 0.5 });
  expect(screen.written).toHaveLength(10);
  for (const line of screen.written) expect(line.replace("\r\x1b[K", "")).toHaveLength(29);
});

test("writes nothing if the output is no terminal", () => {
  const pipe = terminal(false);
  const progress = createProgress(pipe);
  progress.show({ text: "7 sessions", count: 7, share: 0.5 });
  progress.end();
  expect(pipe.written).toEqual([]);
});
