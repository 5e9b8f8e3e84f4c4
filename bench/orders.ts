/** What a process of the benchmark does when it is told to, by name. */
export type Orders = Readonly<Record<string, (argument: never) => unknown>>;

/** What a process has used so far, by its own account. */
export interface Usage {
  /** User and system time in µs. */
  readonly cpuUs: number;
  readonly rssBytes: number;
  /** What lives on V8's heap and beside it (buffers). */
  readonly heapBytes: number;
}

export interface Order {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

export type Report =
  | { readonly kind: "ready"; readonly url: string }
  | { readonly kind: "done"; readonly id: number; readonly result: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly message: string };

/** Of this machine: the same in all processes, in ms. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** So many of them, `atOnce` at a time; how long each took, in ms. */
export async function timed(
  count: number,
  atOnce: number,
  once: (i: number) => Promise<unknown>,
): Promise<readonly number[]> {
  const times: number[] = [];
  let begun = 0;
  const work = async () => {
    while (begun < count) {
      const i = begun++;
      const start = machineMs();
      await once(i);
      times.push(machineMs() - start);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return times;
}

/** What the process that forked this one passed along. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the cast stands here once
export function settings<Settings>(): Settings {
  // Safe: startProcess() writes it, and its callers take the type from the program that they start.
  return JSON.parse(process.argv[2] ?? "null") as Settings;
}

const builtIn = {
  usage(): Usage {
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed, external } = process.memoryUsage();
    return { cpuUs: user + system, rssBytes: rss, heapBytes: heapUsed + external };
  },
  collectGarbage(): void {
    globalThis.gc?.();
  },
};

/** Serves the process that forked this one, and ends with it. */
export function takeOrders(orders: Orders, url = ""): void {
  const tell = (report: Report) => void process.send?.(report);
  const all: Readonly<Record<string, ((argument: never) => unknown) | undefined>> = { ...orders, ...builtIn };
  process.on("message", ({ id, name, argument }: Order) => {
    const carryOut = async () => {
      const order = all[name];
      if (order === undefined) throw new Error(`No order is called ${name}`);
      // Safe: startProcess() has the orders' types.
      return await order(argument as never);
    };
    carryOut().then(
      (result) => tell({ kind: "done", id, result }),
      (error: unknown) => tell({ kind: "failed", id, message: error instanceof Error ? String(error.stack) : "?" }),
    );
  });
  process.on("disconnect", () => process.exit());
  tell({ kind: "ready", url });
}
