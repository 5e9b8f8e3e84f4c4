const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const dayWithTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, {
  ...{ hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" },
});

const dayMs = 24 * 3600 * 1000;

/** As short as it can be told: the time of today, else the day. */
export function shortTime(at: string | null): string {
  if (at === null) return "";
  const date = new Date(at);
  return Date.now() - date.getTime() < dayMs && date.getDate() === new Date().getDate()
    ? clock.format(date)
    : day.format(date);
}

export function dayAndTime(at: string): string {
  return dayWithTime.format(new Date(at));
}

export function exactTime(at: number): string {
  return exact.format(at);
}

export function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

export function size(bytes: number): string {
  return bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(1)} kB`;
}
