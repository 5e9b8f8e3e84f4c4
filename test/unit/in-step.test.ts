import { describe, expect, test } from "vitest";

import type { SessionEvent } from "../../src/conversation/events.ts";
import type { LiveReader } from "../../src/conversation/ports/live.ts";
import { InStep } from "../../src/redis/feed/in-step.ts";
import type { Member } from "../../src/redis/feed/in-step.ts";
import type { Place } from "../../src/redis/feed/place.ts";

// Who waits at the same place of a feed shares it. Here the places are scripts: what each poll gives, or throws.

const removed = (sessionId: string): SessionEvent => ({ kind: "removed", sessionId });
const failure = new Error("It cannot be told.");

/** Copies are told apart by how much was polled before them. */
class ScriptedPlace {
  readonly script: (SessionEvent | Error)[];
  polled: number;
  /** Whether there is more to read than the ring has. */
  left = false;

  constructor(script: (SessionEvent | Error)[], polled = 0) {
    this.script = script;
    this.polled = polled;
  }

  get isAtTip(): boolean {
    return !this.left;
  }

  isLike(other: ScriptedPlace): boolean {
    return this.script === other.script && this.polled === other.polled;
  }

  copy(): ScriptedPlace {
    return new ScriptedPlace(this.script, this.polled);
  }

  poll(): SessionEvent | null {
    const next = this.script[this.polled];
    if (next === undefined) return null;
    this.polled += 1;
    if (next instanceof Error) throw next;
    return next;
  }

  asPlace(): Place {
    return this as unknown as Place; // all that InStep knows of one
  }
}

class Subscriber implements LiveReader<SessionEvent>, Member {
  readonly took: SessionEvent[] = [];
  readonly log: string[] = [];
  waitsForMore = true;
  onTake: () => void = () => undefined;

  take(event: SessionEvent): boolean {
    this.took.push(event);
    this.onTake();
    return this.waitsForMore;
  }

  wake(): void {
    this.log.push("woken");
  }

  goOn(place: Place): void {
    this.log.push(`alone at ${(place as unknown as ScriptedPlace).polled}`);
  }
}

/** So many who wait at the same place. */
function waiting(count: number, script: (SessionEvent | Error)[] = []) {
  const inStep = new InStep();
  const place = new ScriptedPlace(script);
  const subscribers = Array.from({ length: count }, () => new Subscriber());
  for (const one of subscribers) inStep.join(one, one, place.copy().asPlace());
  return { inStep, script, subscribers };
}

describe("subscribers in step", () => {
  test("are handed the same object, in order", () => {
    const { inStep, script, subscribers } = waiting(3);
    script.push(removed("a"), removed("b"));
    inStep.deliver(false);
    for (const { took, log } of subscribers) {
      expect(took).toEqual([removed("a"), removed("b")]);
      expect(took[0]).toBe(subscribers[0]?.took[0]);
      expect(log).toEqual([]);
    }
  });

  test("who waits for no more goes on alone, behind the event that it took", () => {
    const { inStep, script, subscribers } = waiting(3);
    const [, slow] = subscribers;
    if (slow !== undefined) slow.waitsForMore = false;
    script.push(removed("a"), removed("b"));
    inStep.deliver(false);
    expect(subscribers.map(({ took }) => took.length)).toEqual([2, 1, 2]);
    expect(slow?.log).toEqual(["alone at 1"]);
  });

  test("what cannot be told parts them: each meets it alone, from before it, and all of them are woken", () => {
    const { inStep, script, subscribers } = waiting(3);
    script.push(removed("a"), failure, removed("b"));
    expect(() => inStep.deliver(false)).not.toThrow();
    for (const { took, log } of subscribers) {
      expect(took).toEqual([removed("a")]);
      expect(log).toEqual(["alone at 1", "woken"]);
    }
    // Nobody is there any more, so whoever comes is the first.
    const next = new Subscriber();
    const place = new ScriptedPlace([]).asPlace();
    expect(inStep.join(next, next, place)).toBe(place);
  });

  test("nobody gets in while an event is handed out, who has another place neither", () => {
    const { inStep, script, subscribers } = waiting(1);
    const late = new Subscriber();
    const answers: unknown[] = [];
    const [first] = subscribers;
    if (first !== undefined) {
      first.onTake = () => answers.push(inStep.join(late, late, new ScriptedPlace(script, 1).asPlace()));
    }
    script.push(removed("a"));
    inStep.deliver(false);
    expect(answers).toEqual([null]);
    expect(inStep.join(late, late, new ScriptedPlace(script, 0).asPlace())).toBeNull();
    expect(inStep.join(late, late, new ScriptedPlace(script, 1).asPlace())).not.toBeNull();
    script.push(removed("b"));
    inStep.deliver(false);
    expect(late.took).toEqual([removed("b")]);
  });

  test("at the feed's end all go on alone", () => {
    const { inStep, script, subscribers } = waiting(2);
    script.push(removed("a"));
    inStep.deliver(true);
    for (const { took, log } of subscribers) {
      expect(took).toEqual([removed("a")]);
      expect(log).toEqual(["alone at 1", "woken"]);
    }
  });

  test("one that ends while others are handed an event is not handed it any more", () => {
    const { inStep, script, subscribers } = waiting(3);
    const [first, , last] = subscribers;
    if (first !== undefined && last !== undefined) first.onTake = () => inStep.leave(last);
    script.push(removed("a"));
    inStep.deliver(false);
    expect(subscribers.map(({ took }) => took.length)).toEqual([1, 1, 0]);
  });
});
