import { Cluster, type Redis } from "ioredis";

/**
 * What is asked for within one turn of the event loop leaves in one write to the socket: a turn of a conversation asks for
 * its script and its places in the index together, and each write costs more than the commands in it.
 */
export function batchWrites(redis: Redis | Cluster): void {
  if (redis instanceof Cluster) {
    redis.on("+node", batchWritesOf);
    for (const node of redis.nodes("all")) batchWritesOf(node);
  } else batchWritesOf(redis);
}

function batchWritesOf(redis: Redis): void {
  const send = redis.sendCommand.bind(redis);
  redis.sendCommand = (...args) => {
    const { stream } = redis as { readonly stream?: Redis["stream"] }; // there is none before the first connection
    if (stream !== undefined && stream.writableCorked === 0) {
      stream.cork();
      // Behind the promises that are settled now, whose callbacks may have something to ask for too.
      process.nextTick(() => stream.uncork());
    }
    return send(...args);
  };
}
