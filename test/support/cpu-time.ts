/** Milliseconds of CPU that this process takes for `work`: what else a machine does at the time makes it no longer. */
export function cpuTimeOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
