import { fork } from "node:child_process";
import { once } from "node:events";
import { startFlags } from "../test/support/gateway/start-command.ts";
import type { Order, Orders, Report, Usage } from "./orders.ts";

/** A process of the benchmark, seen from the one that gives the orders. */
export interface BenchProcess<Given extends Orders = Orders> {
  /** Where it listens; "" where it does not. */
  readonly url: string;
  order<Name extends keyof Given & string>(
    name: Name,
    argument: Parameters<Given[Name]>[0],
  ): Promise<Awaited<ReturnType<Given[Name]>>>;
  usage(): Promise<Usage>;
  collectGarbage(): Promise<void>;
  stop(): Promise<void>;
}

/** From the benchmarks' folder, or by URL. `settings` is what the program reads with settings(). */
export async function startProcess<Given extends Orders>(
  file: string,
  settings: object = {},
): Promise<BenchProcess<Given>> {
  const child = fork(new URL(file, import.meta.url), [JSON.stringify(settings)], {
    execArgv: ["--expose-gc", ...(file.endsWith("parley.ts") ? startFlags : [])],
    env: { ...process.env, NODE_ENV: "production" },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const exited = once(child, "exit");
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  let lastId = 0;
  const url = await new Promise<string>((resolve, reject) => {
    child.once("exit", (code) => {
      const error = new Error(`${file} ended with ${code ?? "a signal"}`);
      reject(error);
      for (const order of waiting.values()) order.reject(error);
    });
    child.on("message", (message) => {
      const report = message as Report; // Safe: the program at the other end speaks through takeOrders().
      if (report.kind === "ready") {
        resolve(report.url);
        return;
      }
      const order = waiting.get(report.id);
      waiting.delete(report.id);
      if (report.kind === "done") order?.resolve(report.result);
      else order?.reject(new Error(`${file}: ${report.message}`));
    });
  });
  const order = (name: string, argument: unknown) =>
    new Promise<unknown>((resolve, reject) => {
      const id = ++lastId;
      waiting.set(id, { resolve, reject });
      child.send({ id, name, argument } satisfies Order);
    });
  return {
    url,
    // Safe: `Given` is the type of the orders that the program passes to takeOrders().
    order: (name, argument) => order(name, argument) as Promise<Awaited<ReturnType<Given[typeof name]>>>,
    usage: () => order("usage", null) as Promise<Usage>, // Safe: built in.
    collectGarbage: () => order("collectGarbage", null) as Promise<void>, // Safe: built in.
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await exited;
    },
  };
}
