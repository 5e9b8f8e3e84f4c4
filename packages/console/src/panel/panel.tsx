import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Button } from "../parts/button.tsx";
import { useStore } from "../store.ts";
import { network, recorder } from "../wire/client.ts";
import { Events } from "./events.tsx";
import { Inspector } from "./inspector.tsx";
import { Operations } from "./operations.tsx";

const tabs = ["events", "operations", "inspect"] as const;
export type Tab = (typeof tabs)[number];

interface PanelProps {
  readonly sessionId: string;
  readonly tab: Tab;
  readonly setTab: (tab: Tab) => void;
  /** The message that is inspected. */
  readonly messageId: string | null;
  readonly canWrite: boolean;
  readonly tell: (problem: unknown) => void;
  readonly close: () => void;
}

/** What goes over the wire, and what lies in Redis. */
export function Panel({ sessionId, tab, setTab, messageId, canWrite, tell, close }: PanelProps): JSX.Element {
  const { events, operations } = useStore(recorder);
  const [isCut, setCut] = useState(false);
  const counts = { events: events.length, operations: operations.length, inspect: null };
  return (
    <aside class="panel" aria-label="Events and operations">
      <header>
        <Button icon="scissors" label="Cut my connection" act={network.cut} look="" />
        <label class="switch">
          <input
            type="checkbox"
            checked={isCut}
            onChange={({ currentTarget: { checked } }) => {
              setCut(checked);
              network.keepCut(checked);
            }}
          />
          stay cut
        </label>
        {/* With its opener, so that it takes what this tab has signed in with. */}
        <Button icon="tab" label="Second tab" act={() => window.open(location.href, "_blank")} look="" />
        <Button icon="close" label="Close the panel" act={close} look="quiet only-narrow" isBare />
      </header>
      <div class="tabs" role="tablist" aria-label="What is shown">
        {tabs.map((name) => (
          <button
            role="tab"
            id={`tab-${name}`}
            aria-controls="tab-panel"
            aria-selected={name === tab}
            tabIndex={name === tab ? 0 : -1}
            onClick={() => setTab(name)}
            onKeyDown={({ key, currentTarget }) => {
              const step = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
              const next = tabs[(tabs.indexOf(name) + step + tabs.length) % tabs.length];
              if (step === 0 || next === undefined) return;
              setTab(next);
              (currentTarget.parentElement?.children[tabs.indexOf(next)] as HTMLElement | undefined)?.focus(); // a tab
            }}
          >
            {name[0]?.toUpperCase()}
            {name.slice(1)}
            {counts[name] !== null && <span class="count">{counts[name]}</span>}
          </button>
        ))}
      </div>
      <div class="tab-panel" id="tab-panel" role="tabpanel" aria-labelledby={`tab-${tab}`}>
        {tab === "events" && <Events events={events} />}
        {tab === "operations" && <Operations operations={operations} />}
        {tab === "inspect" && <Inspector {...{ sessionId, messageId, canWrite, tell }} />}
      </div>
    </aside>
  );
}
