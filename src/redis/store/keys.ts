export type SharedKeys = ReturnType<typeof sharedKeys>;

/**
 * What the sessions of one history key prefix share, in slots of their own. Deployments of several prefixes on one Redis
 * have models and owners of their own: none looks after another's sessions. The prefix stands behind an @ without colons
 * and braces of its own, so that no owner's name can be read as part of it.
 */
export function sharedKeys(historyKeyPrefix: string) {
  const at = deployment(historyKeyPrefix);
  return {
    /** Sessions with runs that need somebody by a time, and those that expire. */
    due: `parley:due${at}`,
    expiries: `parley:expiries${at}`,
    sessions: (owner: string) => `parley:sessions${at}:${owner}`,
    /** A channel. */
    list: (owner: string) => `parley:list${at}:${owner}`,
  } as const;
}

function deployment(historyKeyPrefix: string): string {
  return historyKeyPrefix === "" ? "" : `@${encodeURIComponent(historyKeyPrefix.toWellFormed())}`;
}

/** What a subject has cost lately, in one slot. */
export function quotaKeys(historyKeyPrefix: string, owner: string) {
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

/**
 * A session's keys share the slot of its history key: `parley:{<tag>}:<part>:<history key>`. The tag is the history key
 * where it has no brace, its own hash tag where it has one, else a short tag of the same slot: `parley:{<key>}` would be
 * wrong for "a}b" and "{}x".
 */
export function sessionKeys(historyKey: string) {
  const tag = hashTag(historyKey);
  const part = (name: string) => `parley:{${tag}}:${name}:${historyKey}`;
  const events = part("events");
  const session = part("session");
  const others = ["runs", "partial", "queue", "ops", "ops-due"].map(part);
  return {
    history: historyKey,
    session,
    events,
    /** In the order that the scripts take them; the events channel is the last. */
    all: [historyKey, session, ...others, events],
    /** Of the LangGraph thread of this session, and their order. */
    checkpoints: [part("checkpoints"), part("checkpoint-order")],
    staging: (id: string) => part(`staging-${id}`),
  } as const;
}
