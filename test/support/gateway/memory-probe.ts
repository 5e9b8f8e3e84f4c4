import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

// Loaded into a gateway's process ahead of it (`--import`): at SIGUSR2 it collects garbage and prints what is left, which is
// what something holds on to. What the process has got from the system is more: a busy heap is given back late.

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void; // the flag above is there for it

process.on("SIGUSR2", () => {
  collect();
  // The memory of buffers is given back behind the collection that found them unused, and counted with the next one.
  setTimeout(() => {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    process.stdout.write(`memory held: ${heapUsed + external}\n`);
  }, 200);
});
