import { inject } from "vitest";
import { topologies, type TestTopology } from "./topologies.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Which one the test file's project runs on: see vitest.config.ts. */
    topology: keyof typeof topologies;
  }
}

/** The shape of Redis that this run of the test file is for. */
export const topologyName = inject("topology");

/** Servers of the test file's own, in that shape: it may stop and configure them as it likes. */
export function startTopology(): Promise<TestTopology> {
  return topologies[topologyName]();
}
