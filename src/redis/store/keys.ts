/**
 * Where things lie in Redis. A session's keys share the slot of its history key: `parley:{<tag>}:<part>:<history key>`.
 * The tag is the history key where it has no brace, its own hash tag where it has one, else a short tag of the same
 * slot: `parley:{<key>}` would be wrong for "a}b" and "{}x".
 */
export interface SessionKeys {
  readonly history: string;
  readonly session: string;
  /** In the order that the scripts take them; the events channel is the last. */
  readonly all: readonly string[];
  readonly queue: string;
  readonly events: string;
  readonly staging: (id: string) => string;
}

/** What the sessions of one history key prefix share, in slots of their own. */
export interface SharedKeys {
  /** Sessions with runs that need somebody by a time, and those that expire. */
  readonly due: string;
  readonly expiries: string;
  readonly sessions: (owner: string) => string;
  /** A channel. */
  readonly list: (owner: string) => string;
}

/**
 * Deployments of several prefixes on one Redis have models and owners of their own: none looks after another's sessions.
 * The prefix stands behind an @ without colons and braces of its own, so that no owner's name can be read as part of it.
 */
export function sharedKeys(historyKeyPrefix: string): SharedKeys {
  const at = deployment(historyKeyPrefix);
  return {
    due: `parley:due${at}`,
    expiries: `parley:expiries${at}`,
    sessions: (owner) => `parley:sessions${at}:${owner}`,
    list: (owner) => `parley:list${at}:${owner}`,
  };
}

function deployment(historyKeyPrefix: string): string {
  return historyKeyPrefix === "" ? "" : `@${encodeURIComponent(historyKeyPrefix.toWellFormed())}`;
}

/** What a subject has cost lately, in one slot. */
export interface QuotaKeys {
  readonly sends: string;
  readonly going: string;
  readonly tokens: string;
  readonly spent: string;
}

export function quotaKeys(historyKeyPrefix: string, owner: string): QuotaKeys {
  const part = (name: string) => `parley:{${hashTag(owner)}}:quota-${name}${deployment(historyKeyPrefix)}:${owner}`;
  return { sends: part("sends"), going: part("going"), tokens: part("tokens"), spent: part("spent") };
}

const slots = 16_384;

/**
 * The hash slot of a key by Redis Cluster's rule: of what stands in the first braces, where that is not empty, else of
 * the whole key. The package cluster-key-slot, which ioredis routes by, is wrong about "{}{a}": it takes the "a".
 */
export function slotOf(key: string): number {
  const open = key.indexOf("{");
  const close = open < 0 ? -1 : key.indexOf("}", open + 1);
  return crc16(Buffer.from(close > open + 1 ? key.slice(open + 1, close) : key)) % slots;
}

/** CRC-16/XMODEM. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}

let tagOfSlot: string[] | undefined;

/** A short string for each hash slot, found once by trying numbers in base 36. */
function shortTag(slot: number): string {
  if (!tagOfSlot) {
    tagOfSlot = new Array<string>(slots);
    for (let i = 0, found = 0; found < slots; i++) {
      const tag = i.toString(36);
      const at = slotOf(tag);
      if (tagOfSlot[at] === undefined) {
        tagOfSlot[at] = tag;
        found++;
      }
    }
  }
  const tag = tagOfSlot[slot];
  if (tag === undefined) throw new RangeError(`No slot ${slot}`);
  return tag;
}

export function hashTag(historyKey: string): string {
  const open = historyKey.indexOf("{");
  if (open < 0 && !historyKey.includes("}")) return historyKey;
  if (open >= 0) {
    const close = historyKey.indexOf("}", open + 1);
    if (close > open + 1) return historyKey.slice(open + 1, close);
  }
  return shortTag(slotOf(historyKey));
}

export function sessionKeys(historyKey: string): SessionKeys {
  const tag = hashTag(historyKey);
  const part = (name: string) => `parley:{${tag}}:${name}:${historyKey}`;
  const events = part("events");
  const session = part("session");
  const queue = part("queue");
  return {
    history: historyKey,
    session,
    queue,
    events,
    all: [historyKey, session, part("runs"), part("partial"), queue, part("ops"), part("ops-due"), events],
    staging: (id) => part(`staging-${id}`),
  };
}
