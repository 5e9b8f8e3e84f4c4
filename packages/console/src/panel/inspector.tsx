import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { CopyButton } from "../parts/copy-button.tsx";
import { Json } from "../parts/json.tsx";
import { duration, size } from "../parts/time.ts";
import { useStore } from "../store.ts";
import { client } from "../wire/client.ts";
import { messageDocument, runsDocument } from "./inspector-documents.ts";
import type { MessageFacts, RunFacts, SessionFacts } from "./inspector-documents.ts";

interface InspectorProps {
  readonly sessionId: string;
  readonly messageId: string | null;
  readonly canWrite: boolean;
  readonly tell: (problem: unknown) => void;
}

/** A message as it lies in Redis, its run, and what runs and waits in the session. */
export function Inspector({ sessionId, messageId, canWrite, tell }: InspectorProps): JSX.Element {
  const chat = useStore(client.session(sessionId));
  const [session, setSession] = useState<SessionFacts | null>(null);
  const [message, setMessage] = useState<MessageFacts | null>(null);
  // What is read again when it changes: a run's start and end, what it waits with, the queue, and the number of messages.
  const state = [
    chat.run?.id,
    chat.run?.approvals.length,
    ...chat.queued.map(({ id }) => id),
    chat.messages.length,
    chat.session?.title,
  ].join();
  useEffect(() => {
    if (chat.session === null) {
      setSession(null);
      return;
    }
    return whileWanted(client.request<{ session: SessionFacts | null }>(runsDocument, { sessionId }), tell, (answer) =>
      setSession(answer.session),
    );
  }, [sessionId, state]);
  useEffect(() => {
    if (messageId === null) {
      setMessage(null);
      return;
    }
    return whileWanted(
      client.request<{ node: MessageFacts | null }>(messageDocument, { id: messageId }),
      tell,
      (answer) => setMessage(answer.node),
    );
  }, [messageId]);
  const stop = (id: string) => void client.session(sessionId).cancel(id).catch(tell);

  return (
    <div class="inspector">
      {message === null ? (
        <p class="empty">Choose “Inspect” at a message to see how it lies in Redis.</p>
      ) : (
        <MessageSection message={message} />
      )}
      {session !== null && (
        <>
          <RunSection title="The newest run" run={session.lastRun} stop={canWrite ? stop : null} />
          <section>
            <h3>Queue</h3>
            {session.queuedRuns.length === 0 && <p class="empty">Nothing waits.</p>}
            <ol class="queue">
              {session.queuedRuns.map((run) => (
                <li>
                  <span>{run.input.map(({ text }) => text ?? "…").join("") || "a reply made anew"}</span>
                  <small>{run.model}</small>
                  {canWrite && (
                    <button class="small" onClick={() => stop(run.id)}>
                      Take out
                    </button>
                  )}
                </li>
              ))}
            </ol>
          </section>
          <SessionSection session={session} />
        </>
      )}
    </div>
  );
}

/** Its answer, unless the component asks for something else by then. Returns what makes it forget it. */
function whileWanted<T>(work: Promise<T>, tell: (problem: unknown) => void, take: (answer: T) => void): () => void {
  let isWanted = true;
  work.then(
    (answer) => isWanted && take(answer),
    (problem: unknown) => isWanted && tell(problem),
  );
  return () => {
    isWanted = false;
  };
}

function MessageSection({ message }: { readonly message: MessageFacts }): JSX.Element {
  const { storedText, usage, run } = message;
  return (
    <section>
      <h3>
        Message {message.position}
        <CopyButton text={storedText} label="Copy the bytes" />
      </h3>
      <Facts
        of={{
          "in Redis": size(new TextEncoder().encode(storedText).length),
          messageId: message.messageId,
          role: message.role,
          written: message.createdAt,
          finished: message.finishReason,
          tokens: usage && `${usage.inputTokens} in, ${usage.outputTokens} out`,
          "its run": run?.id,
          cursor: message.cursor,
        }}
      />
      <Json text={storedText} label="The message as it is stored" />
    </section>
  );
}

interface RunSectionProps {
  readonly title: string;
  readonly run: RunFacts | null;
  readonly stop: ((id: string) => void) | null;
}

function RunSection({ title, run, stop }: RunSectionProps): JSX.Element {
  if (run === null) {
    return (
      <section>
        <h3>{title}</h3>
        <p class="empty">There was none yet.</p>
      </section>
    );
  }
  const { status, usage, error } = run;
  const [queued, started, finished] = [run.queuedAt, run.startedAt, run.finishedAt].map((at) => at && Date.parse(at));
  return (
    <section>
      <h3>
        {title} <span class={`badge ${status.toLowerCase()}`}>{status}</span>
        {(status === "RUNNING" || status === "WAITING") && stop !== null && (
          <button class="small" onClick={() => stop(run.id)}>
            Stop
          </button>
        )}
      </h3>
      <Facts
        of={{
          model: run.model,
          accepted: run.queuedAt,
          waited: queued && started ? duration(started - queued) : null,
          took: started && finished ? duration(finished - started) : null,
          "to decide": run.approvals.map(({ name }) => name).join(", ") || null,
          "waits until": run.waitsUntil,
          tokens: usage && `${usage.inputTokens} in, ${usage.outputTokens} out`,
          text: `${run.text.length} characters`,
          error: error && `${error.code}: ${error.message}`,
          notes: run.notes.join(" ") || null,
          id: run.id,
        }}
      />
    </section>
  );
}

function SessionSection({ session }: { readonly session: SessionFacts }): JSX.Element {
  const { memory, totalUsage } = session;
  return (
    <section>
      <h3>Session</h3>
      <Facts
        of={{
          sessionId: session.sessionId,
          messages: `${session.messageCount}, ${session.readCount} read`,
          model: session.model,
          memory: [
            memory.strategy,
            memory.maxTurns && `${memory.maxTurns} turns`,
            memory.maxTokens && `${memory.maxTokens} tokens`,
          ]
            .filter(Boolean)
            .join(", "),
          instructions: session.instructions,
          tokens: `${totalUsage.inputTokens} in, ${totalUsage.outputTokens} out`,
          created: session.createdAt,
          expires: session.expiresAt ?? "never",
          metadata: JSON.stringify(session.metadata),
          "forked from": session.forkedFrom?.sessionId,
          cursor: session.cursor,
        }}
      />
    </section>
  );
}

/** What is null is left out. */
function Facts({
  of: facts,
}: {
  readonly of: Readonly<Record<string, string | number | null | undefined>>;
}): JSX.Element {
  return (
    <dl>
      {Object.entries(facts).flatMap(([name, value]): ComponentChildren[] =>
        value === null || value === undefined ? [] : [<dt>{name}</dt>, <dd>{value}</dd>],
      )}
    </dl>
  );
}
