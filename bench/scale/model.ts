// A linear model of what a deployment costs. Its coefficients are fitted to mixed loads on one gateway, and its prediction
// for mixed loads on several gateways is held against what these really take.

/** What a deployment has to do. */
export interface Load {
  readonly gateways: number;
  /** Sessions that somebody follows; with a fan-out of 0 nobody does, and messages go to them all the same. */
  readonly sessions: number;
  /** Subscribers of each of them. */
  readonly fanOut: number;
  readonly writesPerSecond: number;
  /** Replies being made at a time, each with as many readers as a session has subscribers. */
  readonly replies: number;
  readonly pagesPerSecond: number;
}

/** For each second, over all gateways. CPU in µs: of the gateways, and of Redis' main thread. */
export interface Rates {
  readonly gateway: number;
  readonly redis: number;
  /** What gateways send to clients, above TCP. */
  readonly clientBytes: number;
  /** What Redis sends to gateways. */
  readonly redisBytes: number;
}

const resources = ["gateway", "redis", "clientBytes", "redisBytes"] as const;

/** What costs something, and how often a load has it in a second. */
const counts = {
  /** A gateway that has nothing to do. */
  gateway: ({ gateways }) => gateways,
  /** A session, at each gateway that has a subscriber of it. */
  feed: (load) => load.sessions * gatewaysOf(load),
  subscriber: ({ sessions, fanOut }) => sessions * fanOut,
  /** A message, on its way in. */
  write: ({ writesPerSecond }) => writesPerSecond,
  /** A message, at each gateway that has a subscriber of its session. */
  receipt: (load) => load.writesPerSecond * gatewaysOf(load),
  /** A message, for each subscriber. */
  delivery: ({ writesPerSecond, fanOut }) => writesPerSecond * fanOut,
  /** A reply that is being made. */
  reply: ({ replies }) => replies,
  /** Such a reply, at each gateway that has a reader of it. */
  replyReceipt: (load) => load.replies * gatewaysOf(load),
  /** Such a reply, for each reader. */
  replyDelivery: ({ replies, fanOut }) => replies * fanOut,
  page: ({ pagesPerSecond }) => pagesPerSecond,
} satisfies Record<string, (load: Load) => number>;

export type Part = keyof typeof counts;
// Safe: they are the keys of `counts`.
const allParts = Object.keys(counts) as Part[];

export interface Costs {
  /** Of one of each. */
  readonly parts: Readonly<Record<Part, Rates>>;
  /** Resident in the gateways, in bytes. */
  readonly subscriberMemory: number;
  readonly feedMemory: number;
  /** In Redis, for each message. */
  readonly messageMemory: number;
}

/** On how many of the gateways a session's subscribers are to be expected, where each goes to any of them. */
function gatewaysOf({ gateways, fanOut }: Load): number {
  return gateways * (1 - (1 - 1 / gateways) ** fanOut);
}

const eachResource = (of: (resource: keyof Rates) => number): Rates => ({
  gateway: of("gateway"),
  redis: of("redis"),
  clientBytes: of("clientBytes"),
  redisBytes: of("redisBytes"),
});

/** What the load takes each second for the parts. */
export function predict(costs: Pick<Costs, "parts">, load: Load, parts: readonly Part[] = allParts): Rates {
  return eachResource((resource) =>
    parts.reduce((sum, part) => sum + counts[part](load) * costs.parts[part][resource], 0),
  );
}

/**
 * The costs by which the loads take what was measured: least squares of the errors, each relative to what was measured (and a
 * tenth of the mean, as some take nothing), and no cost below zero. Coordinate descent: each cost in turn is set to what fits
 * best while the others stay.
 */
export function fit(trials: readonly { readonly load: Load; readonly measured: Rates }[]): Costs["parts"] {
  const fitted = eachOf(resources, (resource) => {
    const mean = trials.reduce((sum, { measured }) => sum + measured[resource], 0) / trials.length;
    const weights = trials.map(({ measured }) => 1 / (measured[resource] + mean / 10));
    const rows = trials.map(({ load }, i) => eachOf(allParts, (part) => counts[part](load) * (weights[i] ?? 0)));
    const costs = eachOf(allParts, () => 0);
    const errors = trials.map(({ measured }, i) => measured[resource] * (weights[i] ?? 0));
    for (let round = 0; round < 100_000; round++) {
      for (const part of allParts) {
        const squares = rows.reduce((sum, row) => sum + row[part] ** 2, 0);
        const step = rows.reduce((sum, row, i) => sum + row[part] * (errors[i] ?? 0), 0) / squares;
        const change = Math.max(0, costs[part] + step) - costs[part];
        costs[part] += change;
        for (const [i, row] of rows.entries()) errors[i] = (errors[i] ?? 0) - change * row[part];
      }
    }
    return costs;
  });
  return eachOf(allParts, (part) => eachResource((resource) => fitted[resource][part]));
}

function eachOf<Key extends string, Value>(keys: readonly Key[], of: (key: Key) => Value): Record<Key, Value> {
  // Safe: each key has its value.
  return Object.fromEntries(keys.map((key) => [key, of(key)])) as Record<Key, Value>;
}

/** What one process or machine may be used for. */
export interface Capacity {
  /** Share of a core that a gateway's process, and a shard's main thread, are to be busy. */
  readonly busy: number;
  readonly gatewayMemoryBytes: number;
  /** Open sockets of a gateway's process. */
  readonly gatewaySockets: number;
}

export interface Needs {
  /** By what each alone asks for; a deployment needs the greatest. */
  readonly gateways: { readonly cpu: number; readonly memory: number; readonly sockets: number };
  readonly shards: number;
  readonly load: Load;
  readonly rates: Rates;
  /** In Redis, each day, where nothing expires. */
  readonly redisBytesPerDay: number;
}

/** How many gateways there are decides on how many of them a session is followed, so the two are found together. */
export function needsOf(costs: Costs, load: Omit<Load, "gateways">, capacity: Capacity): Needs {
  const at = (gateways: number) => {
    const whole = { ...load, gateways };
    const rates = predict(costs, whole);
    const memory = counts.subscriber(whole) * costs.subscriberMemory + counts.feed(whole) * costs.feedMemory;
    const perProcess = {
      cpu: Math.ceil(rates.gateway / 1e6 / capacity.busy),
      memory: Math.ceil(memory / capacity.gatewayMemoryBytes),
      sockets: Math.ceil(counts.subscriber(whole) / capacity.gatewaySockets),
    };
    return { load: whole, rates, perProcess };
  };
  let found = at(1);
  // It grows with the number of gateways, ever less: a few steps and it stands.
  for (let step = 0; step < 20; step++) found = at(Math.max(...Object.values(found.perProcess)));
  return {
    gateways: found.perProcess,
    shards: Math.ceil(found.rates.redis / 1e6 / capacity.busy),
    load: found.load,
    rates: found.rates,
    redisBytesPerDay: load.writesPerSecond * costs.messageMemory * 86_400,
  };
}
