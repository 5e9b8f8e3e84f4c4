// A linear model of what a deployment costs. Its coefficients are measured, one load at a time, and its prediction for
// a mixed load on several gateways is held against what that load really takes.

/** What a deployment has to do. */
export interface Load {
  readonly gateways: number;
  /** Sessions that somebody follows. */
  readonly sessions: number;
  /** Subscribers of each of them. */
  readonly fanOut: number;
  readonly writesPerSecond: number;
  /** Replies being made at a time, each with as many readers as a session has subscribers. */
  readonly replies: number;
  readonly pagesPerSecond: number;
}

/** µs of CPU: of the gateways, and of Redis' main thread. */
export interface Cpu {
  readonly gateway: number;
  readonly redis: number;
}

/** For each second, over all gateways. */
export interface Rates extends Cpu {
  /** What gateways send to clients, above TCP. */
  readonly clientBytes: number;
  /** What Redis sends to gateways. */
  readonly redisBytes: number;
}

export interface Costs {
  /** For each second of each session, at each gateway that has a subscriber of it. */
  readonly feed: Rates;
  /** For each second of each subscriber. */
  readonly subscriber: Rates;
  /** Of a message, on its way in. */
  readonly write: Rates;
  /** Of a message, at each gateway that has a subscriber of its session. */
  readonly receipt: Rates;
  /** Of a message, for each subscriber. */
  readonly delivery: Rates;
  /** For each second of a reply that is being made. */
  readonly reply: Rates;
  /** For each second of such a reply, at each gateway that has a reader of it. */
  readonly replyReceipt: Rates;
  /** For each second of such a reply, for each reader. */
  readonly replyDelivery: Rates;
  readonly page: Rates;
  /** Resident in the gateways, in bytes. */
  readonly subscriberMemory: number;
  readonly feedMemory: number;
  /** In Redis, for each message. */
  readonly messageMemory: number;
}

export const nothing: Rates = { gateway: 0, redis: 0, clientBytes: 0, redisBytes: 0 };

/** Sums of rates, each so many times. */
export function total(parts: readonly (readonly [times: number, rates: Rates])[]): Rates {
  const of = (key: keyof Rates) => parts.reduce((sum, [times, rates]) => sum + times * rates[key], 0);
  return { gateway: of("gateway"), redis: of("redis"), clientBytes: of("clientBytes"), redisBytes: of("redisBytes") };
}

/** On how many of the gateways a session's subscribers are to be expected, where each goes to any of them. */
export function gatewaysOf({ gateways, fanOut }: Load): number {
  return gateways * (1 - (1 - 1 / gateways) ** fanOut);
}

/** What the load takes each second, part by part. */
export function predictParts(costs: Costs, load: Load): Readonly<Record<string, Rates>> {
  const { sessions, fanOut, writesPerSecond, replies, pagesPerSecond } = load;
  const spread = gatewaysOf(load);
  return {
    "idle subscribers": total([
      [sessions * fanOut, costs.subscriber],
      [sessions * spread, costs.feed],
    ]),
    "messages in": total([[writesPerSecond, costs.write]]),
    "messages out": total([
      [writesPerSecond * spread, costs.receipt],
      [writesPerSecond * fanOut, costs.delivery],
    ]),
    "replies made": total([[replies, costs.reply]]),
    "replies out": total([
      [replies * spread, costs.replyReceipt],
      [replies * fanOut, costs.replyDelivery],
    ]),
    pages: total([[pagesPerSecond, costs.page]]),
  };
}

export function predict(costs: Costs, load: Load): Rates {
  return total(Object.values(predictParts(costs, load)).map((rates) => [1, rates]));
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
  readonly rates: Rates;
  readonly parts: Readonly<Record<string, Rates>>;
  /** In Redis, each day, where nothing expires. */
  readonly redisBytesPerDay: number;
}

/** How many gateways there are decides on how many of them a session is followed, so the two are found together. */
export function needsOf(costs: Costs, load: Omit<Load, "gateways">, capacity: Capacity): Needs {
  const at = (gateways: number) => {
    const whole = { ...load, gateways };
    const subscribers = load.sessions * load.fanOut;
    const rates = predict(costs, whole);
    const memory = subscribers * costs.subscriberMemory + load.sessions * gatewaysOf(whole) * costs.feedMemory;
    const perProcess = {
      cpu: Math.ceil(rates.gateway / 1e6 / capacity.busy),
      memory: Math.ceil(memory / capacity.gatewayMemoryBytes),
      sockets: Math.ceil(subscribers / capacity.gatewaySockets),
    };
    return { whole, rates, perProcess };
  };
  let found = at(1);
  // It grows with the number of gateways, ever less: a few steps and it stands.
  for (let step = 0; step < 20; step++) found = at(Math.max(...Object.values(found.perProcess)));
  return {
    gateways: found.perProcess,
    shards: Math.ceil(found.rates.redis / 1e6 / capacity.busy),
    rates: found.rates,
    parts: predictParts(costs, found.whole),
    redisBytesPerDay: load.writesPerSecond * costs.messageMemory * 86_400,
  };
}
