import type { JSX } from "preact";
import { useState } from "preact/hooks";

import type { Approval, Decision, ToolCall } from "../../../client/src/client.ts";
import { Editor } from "../parts/editor.tsx";
import { indented, isJsonObject, Json } from "../parts/json.tsx";
import { dayAndTime } from "../parts/time.ts";

/** Resolves once the gateway has taken it. */
export type Decide = (decision: Decision) => Promise<unknown>;

interface WaitingCallProps {
  readonly call: ToolCall;
  readonly until: string | null;
  /** null: the viewer may only read. */
  readonly decide: Decide | null;
}

/** Of a tool of the page that asked: here nobody has it but the one who reads this. */
const isOfPage = ({ allowed }: Pick<ToolCall, "allowed">) =>
  allowed.some((kind) => kind === "BEGIN" || kind === "RESULT");

export const waitsFor = (calls: readonly Pick<ToolCall, "allowed">[]) =>
  `waits for a ${calls.every(isOfPage) ? "result" : "decision"}`;

/** A call of a tool that goes on only when somebody has decided on it, here or elsewhere. */
export function WaitingCall({ call, until, decide }: WaitingCallProps): JSX.Element {
  const { callId: id, name, argsText, allowed } = call;
  const callId = id ?? ""; // what waits has one
  const [form, setForm] = useState<"edit" | "say" | null>(null);
  const [isSent, setSent] = useState(false);
  const close = () => setForm(null);
  const text = indented(argsText);
  const isPages = isOfPage(call);
  const [hasFailed, setFailed] = useState(false);
  const title = waitsFor([call]);
  const send = (decision: Decision) => {
    setSent(true);
    // Where it was refused it can be made otherwise.
    const again = () => setSent(false);
    void decide?.(decision).then(again, again);
  };
  const button = (kind: string, label: string, act: () => void) =>
    allowed.includes(kind) && (
      <button class={kind === "APPROVE" ? "primary" : undefined} disabled={isSent} onClick={act}>
        {label}
      </button>
    );
  return (
    <section class="approval" aria-label={`${name} ${title}`}>
      <header>
        <b>{name}</b> {title}
        {until !== null && <small>until {dayAndTime(until)}</small>}
      </header>
      {form === "edit" ? (
        <Editor
          {...{ text, close }}
          label={`Arguments of ${name}`}
          hint="All of the arguments, as a JSON object. The history then has these."
          action="Approve with these"
          isCode
          isReady={(value) => !isSent && isJsonObject(value)}
          save={(value) => send({ edit: { callId, args: JSON.parse(value) as Approval["args"] } }) /* isJsonObject */}
        />
      ) : (
        <Json text={text} label={`Arguments of ${name}`} />
      )}
      {form === "say" && (
        <Editor
          {...{ close }}
          text=""
          label={isPages ? `Result of ${name}` : "Why not"}
          hint="The model is told it."
          action={isPages ? "Give the result" : "Reject"}
          isReady={() => !isSent}
          save={(said) =>
            send(isPages ? { result: { callId, text: said, failed: hasFailed } } : { reject: { callId, reason: said } })
          }
        >
          {isPages && (
            <label class="switch">
              <input type="checkbox" checked={hasFailed} onChange={() => setFailed(!hasFailed)} />
              It failed
            </label>
          )}
        </Editor>
      )}
      {form === null && decide !== null && (
        <footer>
          {button("APPROVE", "Approve", () => send({ approve: { callId } }))}
          {button("EDIT", "Edit", () => setForm("edit"))}
          {button("REJECT", "Reject", () => send({ reject: { callId } }))}
          {button("REJECT", "Reject and say why", () => setForm("say"))}
          {button("BEGIN", "Answer it", () => {
            send({ begin: { callId } });
            setForm("say");
          })}
          {button("RESULT", "Answer it", () => setForm("say"))}
        </footer>
      )}
    </section>
  );
}
