import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";

import { CopyButton } from "../parts/copy-button.tsx";
import { Button } from "../parts/button.tsx";
import { indented, Json } from "../parts/json.tsx";
import { Scroller } from "../parts/scroller.tsx";
import { duration, exactTime, size } from "../parts/time.ts";
import { recorder } from "../wire/client.ts";
import { mostEvents } from "../wire/recorder.ts";
import type { EventKind, TapeEvent } from "../wire/recorder.ts";

const kindNames: Readonly<Record<EventKind, string>> = {
  session: "Chat",
  list: "Sidebar",
  connection: "Connection",
  alive: "Pings",
};

export function Events({ events }: { readonly events: readonly TapeEvent[] }): JSX.Element {
  const [hidden, setHidden] = useState<readonly EventKind[]>(["list", "alive"]);
  const [chosen, choose] = useState<TapeEvent | null>(null);
  const shown = useMemo(() => events.filter(({ kind }) => !hidden.includes(kind)), [events, hidden]);
  return (
    <div class="events">
      <div class="filters" role="group" aria-label="Which events">
        {Object.entries(kindNames).map(([key, name]) => {
          const kind = key as EventKind; // its keys
          const isHidden = hidden.includes(kind);
          return (
            <button
              class="chip"
              aria-pressed={!isHidden}
              onClick={() => setHidden(isHidden ? hidden.filter((one) => one !== kind) : [...hidden, kind])}
            >
              {name}
            </button>
          );
        })}
        <Button icon="trash" label="Empty the list" act={recorder.clear} look="quiet small" isBare />
      </div>
      {shown.length === 0 ? (
        <p class="empty">Nothing has come yet. Of what comes, the newest {mostEvents.toLocaleString()} are kept.</p>
      ) : (
        <Scroller
          label="Events"
          items={shown}
          keyOf={({ number }) => String(number)}
          guess={46}
          row={(event) => (
            <button
              class={`event ${event.kind} ${event.name}`}
              aria-pressed={event.number === chosen?.number}
              onClick={() => choose(event.number === chosen?.number ? null : event)}
            >
              <b>{event.name}</b>
              <time>{exactTime(event.at)}</time>
              <small>{event.bytes === null ? event.raw : size(event.bytes)}</small>
              <small>{event.lagMs === null ? "" : `lag ${duration(event.lagMs)}`}</small>
              <code title="cursor">{event.cursor ?? ""}</code>
            </button>
          )}
        />
      )}
      {chosen !== null && (
        <section class="detail" aria-label={`Raw ${chosen.name}`}>
          <header>
            <b>{chosen.name}</b>
            <small>{chosen.bytes !== null && size(chosen.bytes)}</small>
            <CopyButton text={indented(chosen.raw)} />
            <Button icon="close" label="Close the raw event" act={() => choose(null)} look="quiet small" isBare />
          </header>
          <Json text={chosen.raw} label="The event as it came" />
        </section>
      )}
    </div>
  );
}
