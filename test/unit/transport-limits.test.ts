import { describe, expect, test, vi } from "vitest";

import { addressReader } from "../../src/transport/guard/address.ts";
import type { TrustedProxies } from "../../src/transport/guard/address.ts";
import { Counts } from "../../src/transport/guard/counts.ts";
import { createGate } from "../../src/transport/guard/guard.ts";
import { Pace } from "../../src/transport/guard/pace.ts";
import { Bucket, Rates } from "../../src/transport/guard/rate.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

describe("a client's address", () => {
  const of = (trusted: TrustedProxies | null, forwarded: string | null, peer: string | null) =>
    addressReader(trusted)(new Headers(forwarded === null ? {} : { "x-forwarded-for": forwarded }), peer);

  test.each<[string, TrustedProxies | null, string | null, string | null, string | null]>([
    ["the socket's", null, null, "192.0.2.1", "192.0.2.1"],
    ["the socket's, whatever is said", null, "198.51.100.1", "192.0.2.1", "192.0.2.1"],
    ["none where there is no socket", null, "198.51.100.1", null, null],
    ["IPv4 in IPv6", null, null, "::ffff:192.0.2.1", "192.0.2.1"],
    ["of IPv6 the network", null, null, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["of IPv6 the network, written short", null, null, "2001:db8::1", "2001:db8:0:0::/64"],
    ["loopback", null, null, "::1", "0:0:0:0::/64"],
    ["what the one proxy says", 1, "198.51.100.1", "192.0.2.1", "198.51.100.1"],
    ["not what a client invents before it", 1, "203.0.113.9, 198.51.100.1", "192.0.2.1", "198.51.100.1"],
    ["behind two proxies", 2, "203.0.113.9, 198.51.100.1, 10.0.0.1", "10.0.0.2", "198.51.100.1"],
    ["the proxy's own where it says nothing", 1, null, "192.0.2.1", "192.0.2.1"],
    ["with a port", 1, "198.51.100.1:4711", "192.0.2.1", "198.51.100.1"],
    ["IPv6 in brackets", 1, "[2001:db8::1]:4711", "192.0.2.1", "2001:db8:0:0::/64"],
    ["what is no address counts as not said", 1, "unknown", "192.0.2.1", "192.0.2.1"],
    ["behind proxies of a network", ["10.0.0.0/8"], "203.0.113.9, 198.51.100.1, 10.1.2.3", "10.0.0.2", "198.51.100.1"],
    ["a stranger is no proxy", ["10.0.0.0/8"], "198.51.100.1", "192.0.2.1", "192.0.2.1"],
    ["the last proxy where all are", ["10.0.0.0/8"], "10.9.9.9", "10.0.0.2", "10.9.9.9"],
    ["a proxy by IPv6", ["::1"], "198.51.100.1", "::1", "198.51.100.1"],
    ["in a program's own server", 1, "198.51.100.1", null, "198.51.100.1"],
  ])("%s", (_what, trusted, forwarded, peer, expected) => {
    expect(of(trusted, forwarded, peer)).toBe(expected);
  });

  test("what cannot be trusted is said", () => {
    for (const right of [1, ["10.0.0.0/8", "::1"]]) expect(() => addressReader(right)).not.toThrow();
    for (const wrong of [["proxy.example"], ["10.0.0.0/99"], [""]]) expect(() => addressReader(wrong)).toThrow();
  });
});

test("counts know no key that has none, and a place is given back once", () => {
  const counts = new Counts(2);
  const [one, two] = [counts.take("a"), counts.take("a")];
  expect(counts.take("a")).toBeNull();
  expect(counts.take("b")).not.toBeNull();
  expect(counts.take(null)).not.toBeNull();
  one?.();
  one?.();
  expect(counts.take("a")).not.toBeNull();
  expect(counts.take("a")).toBeNull();
  two?.();
  expect(new Counts(null).take("a")).not.toBeNull();
});

describe("rates", () => {
  test("a bucket fills with time, and a debt is a wait", () => {
    const bucket = new Bucket(10, 2, 0);
    expect([bucket.take(0), bucket.take(0), bucket.take(0), bucket.take(0)]).toEqual([0, 0, 100, 200]);
    expect(bucket.take(300)).toBe(0);
    expect(bucket.tryTake(300)).toBe(100);
    expect(bucket.tryTake(350)).toBe(50);
    expect(bucket.tryTake(400)).toBe(0);
  });

  test("each key has its own, so many a minute", () => {
    const rates = new Rates(3);
    expect([1, 2, 3, 4].map(() => rates.take("a", 0))).toEqual([0, 0, 0, 20]);
    expect(rates.take("b", 0)).toBe(0);
    expect(rates.take("a", 20_000)).toBe(0);
    expect(rates.take("a", 20_000)).toBe(20);
  });
});

describe("the gate", () => {
  const settings = { maxConcurrentOperations: 2, maxEventLoopLagMs: 60_000, maxPendingAnswerBytes: 100 };

  test("counts what executes, once each, until it is answered", () => {
    const gate = createGate(settings);
    const one = gate.enter();
    const other = gate.enter();
    expect([gate.size, gate.full()]).toEqual([2, "operations"]);
    one.leave();
    one.leave();
    expect([gate.size, gate.full()]).toEqual([1, null]);
    other.leave();
    expect(gate.size).toBe(0);
    gate.close();
  });

  test("what waits takes no place, however many of its fields do", () => {
    const gate = createGate(settings);
    const place = gate.enter();
    const [one, two] = [place.wait(), place.wait()];
    expect(gate.size).toBe(0);
    one();
    one();
    expect(gate.size).toBe(0);
    two();
    expect(gate.size).toBe(1);
    const last = place.wait();
    place.leave();
    last();
    expect(gate.size).toBe(0);
    gate.close();
  });

  test("is full while more is made than was taken", () => {
    const gate = createGate(settings);
    const first = gate.hold(100);
    expect(gate.full()).toBeNull();
    const second = gate.hold(1);
    expect(gate.full()).toBe("pendingAnswerBytes");
    first();
    expect(gate.full()).toBeNull();
    second();
    gate.close();
  });

  test("is full while the event loop is late again and again, not at once, and not for long", async () => {
    const gate = createGate({ ...settings, maxConcurrentOperations: 1000, maxEventLoopLagMs: 50 });
    const block = async () => {
      const until = performance.now() + 400;
      while (performance.now() < until);
      // Its timer comes first, then this.
      await new Promise((resolve) => setTimeout(resolve, 0));
    };
    // The first operation begins it.
    expect(gate.full()).toBeNull();
    await block();
    const once = gate.full();
    await block();
    await block();
    expect([once, gate.full()]).toEqual([null, "eventLoopLag"]);
    await waitUntil("it keeps up again", () => Promise.resolve(gate.full() === null));
    gate.close();
  });

  test("has a timer while operations come, and none when nobody has asked for a while", () => {
    vi.useFakeTimers();
    const gate = createGate(settings);
    expect(vi.getTimerCount()).toBe(0);
    gate.full();
    vi.advanceTimersByTime(400);
    gate.full();
    vi.advanceTimersByTime(400);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(400);
    expect(vi.getTimerCount()).toBe(0);
    gate.full();
    expect(vi.getTimerCount()).toBe(1);
    gate.close();
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });
});

test("a pace holds what is too fast, and lets it go when there is no debt", async () => {
  const seen: string[] = [];
  const socket = { pause: () => void seen.push("pause"), resume: () => void seen.push("resume") };
  let free = false;
  const pace = new Pace(
    socket,
    100,
    () => seen.push("held"),
    () => free,
  );
  for (let i = 0; i < 400; i++) pace.count();
  expect(seen).toEqual([]);
  for (let i = 0; i < 40; i++) pace.count();
  expect([...seen, pace.holds]).toEqual(["held", "pause", true]);
  await waitUntil("its time is over", () => Promise.resolve(!pace.holds));
  expect(seen).toEqual(["held", "pause"]);
  free = true;
  for (let i = 0; i < 100; i++) pace.count();
  await waitUntil("it is read again", () => Promise.resolve(seen.at(-1) === "resume"));
  for (let i = 0; i < 400; i++) pace.count();
  pace.stop();
  expect(pace.holds).toBe(false);
});
