import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useReducer, useRef } from "preact/hooks";

// Of a list of any length only what is seen is in the page. Rows are as high as they are: one that was never shown counts
// with a guess, and while guesses become heights, what is at the top of the view stays where it is.

interface ScrollerProps<T> {
  readonly label: string;
  readonly items: readonly T[];
  readonly keyOf: (item: T) => string;
  readonly row: (item: T) => ComponentChildren;
  /** Shown above the first row. */
  readonly before?: ComponentChildren;
  /** Of a row that was never shown, in pixels. */
  readonly guess: number;
  /** The view is near the first row. */
  readonly onTop?: () => void;
  /** Whether the last row is in view. */
  readonly onEnd?: (isThere: boolean) => void;
  /** With each other number the view goes to the end. */
  readonly toEnd?: number;
}

/** What stays in place: the end, or a row with how far the view begins below its top. */
type Anchor = "end" | { readonly key: string; readonly below: number };

/** Rendered above and below the view. */
const marginPx = 300;
/** So near to the end counts as being there. */
const endPx = 32;
const topPx = 600;

export function Scroller<T>(props: ScrollerProps<T>): JSX.Element {
  const { label, items, keyOf, row, before, guess, onTop, onEnd, toEnd = 0 } = props;
  const view = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<string, number>());
  const anchor = useRef<Anchor>("end");
  const wasToEnd = useRef(toEnd);
  if (wasToEnd.current !== toEnd) anchor.current = "end";
  wasToEnd.current = toEnd;
  const [, again] = useReducer((count: number) => count + 1, 0);

  const heightOf = (item: T) => heights.current.get(keyOf(item)) ?? guess;
  const tops = [0];
  for (const item of items) tops.push((tops.at(-1) ?? 0) + heightOf(item));
  const total = tops.at(-1) ?? 0;

  const viewHeight = view.current?.clientHeight ?? 800;
  const top = topOf(anchor.current);
  const first = Math.max(
    0,
    tops.findLastIndex((at) => at <= top - marginPx),
  );
  const found = tops.findIndex((at) => at >= top + viewHeight + marginPx);
  const last = found === -1 ? items.length : found;

  /** Where in the rows the view begins. */
  function topOf(at: Anchor): number {
    const end = Math.max(0, total - viewHeight);
    if (at === "end") return end;
    const index = items.findIndex((item) => keyOf(item) === at.key);
    return index === -1 ? end : Math.min(end, (tops[index] ?? 0) + at.below);
  }

  const latest = useRef({ items, keyOf, tops, total, onTop, onEnd });
  latest.current = { items, keyOf, tops, total, onTop, onEnd };

  function measure(): boolean {
    let changed = false;
    for (const element of content.current?.children ?? []) {
      const { key } = (element as HTMLElement).dataset;
      const height = element.getBoundingClientRect().height;
      if (key === undefined || Math.abs((heights.current.get(key) ?? 0) - height) < 0.5) continue;
      heights.current.set(key, height);
      changed = true;
    }
    return changed;
  }

  useLayoutEffect(() => {
    const { current } = view;
    if (current === null) return;
    if (measure()) {
      again(undefined);
      return;
    }
    const target = anchor.current === "end" ? current.scrollHeight : (content.current?.offsetTop ?? 0) + top;
    if (Math.abs(current.scrollTop - Math.min(target, current.scrollHeight - current.clientHeight)) > 1) {
      current.scrollTop = target;
    }
  });

  useLayoutEffect(() => {
    // The view's width changes all heights, and a row may grow by itself.
    const observer = new ResizeObserver(() => measure() && again(undefined));
    for (const element of [view.current, content.current]) if (element !== null) observer.observe(element);
    return () => observer.disconnect();
  }, []);

  function scrolled(): void {
    const { current } = view;
    if (current === null) return;
    const { tops: all, items: rows } = latest.current;
    const at = current.scrollTop - (content.current?.offsetTop ?? 0);
    const isEnd = current.scrollHeight - current.scrollTop - current.clientHeight < endPx;
    const index = Math.max(
      0,
      all.findLastIndex((one) => one <= at),
    );
    const item = rows[Math.min(index, rows.length - 1)];
    anchor.current = isEnd || item === undefined ? "end" : { key: keyOf(item), below: at - (all[index] ?? 0) };
    latest.current.onEnd?.(isEnd);
    if (at < topPx) latest.current.onTop?.();
    again(undefined);
  }

  return (
    <div class="scroller" ref={view} onScroll={scrolled} role="region" aria-label={label} tabIndex={0}>
      {before}
      <div
        class="rows"
        ref={content}
        style={{ paddingTop: `${tops[first] ?? 0}px`, paddingBottom: `${total - (tops[last] ?? 0)}px` }}
      >
        {items.slice(first, last).map((item) => (
          <div key={keyOf(item)} data-key={keyOf(item)}>
            {row(item)}
          </div>
        ))}
      </div>
    </div>
  );
}
