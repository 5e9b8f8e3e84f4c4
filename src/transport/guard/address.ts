import { BlockList, isIP } from "node:net";
import type { RequestHeaders } from "../../operations/identity.ts";

/** So many proxies stand in front, or proxies of these addresses and networks ("10.0.0.0/8", "::1"). */
export type TrustedProxies = number | readonly string[];

/** Tells by what address a client is counted; null: by none (a program calls fetch() itself). */
type AddressOf = (headers: RequestHeaders, peer: string | null) => string | null;

/** What a client says of itself could be anything, and long. */
const mostForwarded = 20;

/**
 * Each proxy adds the address of its caller at the end of X-Forwarded-For; what stands before that may be invented. So the list
 * is read from its end, and no further than the proxies that are trusted.
 * @throws {TypeError} for what is no address or network
 */
export function addressReader(trusted: TrustedProxies | null): AddressOf {
  if (trusted === null || trusted === 0) return (_headers, peer) => keyOf(peer);
  const isTrusted = typeof trusted === "number" ? null : matcherOf(trusted);
  return (headers, peer) => {
    const forwarded = (headers.get("x-forwarded-for") ?? "").split(",").slice(-mostForwarded);
    const chain = [...forwarded.map((one) => one.trim()), peer ?? ""].reverse();
    if (isTrusted === null) return keyOf(chain.slice(0, Number(trusted) + 1).findLast((one) => isIP(plain(one)) !== 0));
    let client: string | undefined;
    for (const one of chain) {
      if (isIP(plain(one)) === 0) break;
      client = one;
      if (!isTrusted(plain(one))) break;
    }
    return keyOf(client);
  };
}

function matcherOf(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits] = network.split("/");
    const version = isIP(address);
    if (version === 0) throw new TypeError(`${network} is no address or network`);
    const family = version === 6 ? "ipv6" : "ipv4";
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

/** IPv4 as Node has it on a socket for both. Some proxies add the port. */
function plain(address: string): string {
  const [, v4] = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)(?::\d+)?$/i.exec(address) ?? [];
  return v4 ?? /^\[(.*)\](?::\d+)?$/.exec(address)?.[1] ?? address;
}

/** Of IPv6 a client has a whole network of 64 bits to choose from. */
function keyOf(address: string | null | undefined): string | null {
  if (address === null || address === undefined) return null;
  const text = plain(address);
  if (isIP(text) !== 6) return text === "" ? null : text;
  const [head = "", tail] = text.split("%")[0]?.split("::") ?? [];
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const gap = tail === undefined ? [] : Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => "0");
  const groups = [...front, ...gap, ...back].slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${groups.join(":")}::/64`;
}
