import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { CopyButton } from "../parts/copy-button.tsx";
import { Button } from "../parts/button.tsx";
import { Icon } from "../parts/icon.tsx";
import { Json } from "../parts/json.tsx";
import { Scroller } from "../parts/scroller.tsx";
import { duration, exactTime } from "../parts/time.ts";
import { graphiqlAddress } from "../wire/client.ts";
import { formatDocument } from "../wire/graphql-text.ts";
import type { Operation } from "../wire/recorder.ts";

export function Operations({ operations }: { readonly operations: readonly Operation[] }): JSX.Element {
  const [number, choose] = useState<number | null>(null);
  const chosen = operations.find((one) => one.number === number);
  return (
    <div class="events">
      <Scroller
        label="Operations"
        items={operations}
        keyOf={(one) => String(one.number)}
        guess={46}
        row={(operation) => (
          <button
            class={`event ${operation.type}`}
            aria-pressed={operation.number === number}
            onClick={() => choose(operation.number === number ? null : operation.number)}
          >
            <b>{operation.name}</b>
            <time>{exactTime(operation.at)}</time>
            <small>{operation.type}</small>
            <small>
              {operation.ms === null ? (operation.type === "subscription" ? "" : "…") : duration(operation.ms)}
            </small>
            {operation.error !== null && <code class="error">{operation.error}</code>}
          </button>
        )}
      />
      {chosen !== undefined && <Detail operation={chosen} close={() => choose(null)} />}
    </div>
  );
}

interface DetailProps {
  readonly operation: Operation;
  readonly close: () => void;
}

function Detail({ operation: { name, query, variables }, close }: DetailProps): JSX.Element {
  const text = formatDocument(query);
  const given = JSON.stringify(variables, null, 2);
  return (
    <section class="detail" aria-label={`Operation ${name}`}>
      <header>
        <b>{name}</b>
        <CopyButton text={`${text}\n\n# Variables\n${given.replace(/^/gm, "# ")}\n`} />
        {graphiqlAddress !== null && (
          <a
            class="button quiet small"
            target="_blank"
            href={`${graphiqlAddress}?${new URLSearchParams({ query: text, variables: given }).toString()}`}
          >
            <Icon name="tab" />
            GraphiQL
          </a>
        )}
        <Button icon="close" label="Close the operation" act={close} look="quiet small" isBare />
      </header>
      <h3>Variables</h3>
      <Json text={given} label="The operation's variables" />
      <h3>Text</h3>
      <pre class="json" tabIndex={0} role="group" aria-label="The operation's text">
        {text}
      </pre>
    </section>
  );
}
