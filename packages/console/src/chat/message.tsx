import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";

import type { Block, ChatMessage, ToolCall } from "../../../client/src/client.ts";
import { Editor } from "../parts/editor.tsx";
import { indented } from "../parts/json.tsx";
import { Button } from "../parts/button.tsx";
import type { IconName } from "../parts/icon.tsx";
import { Markdown } from "../parts/markdown.tsx";
import { shortTime } from "../parts/time.ts";
import { WaitingCall } from "./waiting-call.tsx";
import type { Decide } from "./waiting-call.tsx";

export interface MessageActions {
  readonly decide: Decide;
  readonly edit: (id: string, text: string) => void;
  readonly regenerate: (id: string) => void;
  readonly fork: (id: string) => void;
  readonly retry: (id: string) => void;
  /** Forgets what could not be sent, or takes what waits out of the queue. */
  readonly drop: (message: ChatMessage) => void;
}

interface MessageProps {
  readonly message: ChatMessage;
  /** null: the viewer may only read. */
  readonly actions: MessageActions | null;
  readonly inspect: (id: string) => void;
  /** How long calls of tools wait for a decision. */
  readonly waitsUntil: string | null;
  /** Whether its actions are shown though it is neither pointed at nor focused. */
  readonly isLast: boolean;
}

function nameOf({ role, name }: ChatMessage): string {
  return name ?? (role === "USER" ? "You" : `${role.charAt(0)}${role.slice(1).toLowerCase()}`);
}

/** What is to be said of how it ended, or of what becomes of it. */
function noteOn({ status, finishReason, error, toolFailed }: ChatMessage): string | null {
  if (status === "sending") return "sending";
  if (status === "queued") return "waits for its turn";
  if (status === "failed") return error === null ? "failed" : `failed: ${error.code}`;
  if (toolFailed) return "failed";
  if (finishReason === "CANCELLED") return "stopped";
  if (finishReason === "LENGTH") return "cut off at the token limit";
  if (finishReason === "CONTENT_FILTER") return "cut off by the provider's filter";
  return null;
}

/** Of what has been answered its own message tells. */
function stateOf({ status }: ToolCall): string {
  return status === null || status === "DONE"
    ? ""
    : `: ${status === "NEEDS_APPROVAL" ? "decided" : status.toLowerCase().replace("_", " ")}`;
}

export function Message({ message, actions, inspect, waitsUntil, isLast }: MessageProps): JSX.Element {
  const { id, role, status, text, content, createdAt, position, error, toolCalls } = message;
  const [isActive, setActive] = useState(false);
  const [isEditing, setEditing] = useState(false);
  const note = noteOn(message);
  return (
    <article
      class={`message ${role.toLowerCase()} ${status} ${isLast ? "" : "passed"}`}
      tabIndex={0}
      aria-label={`${nameOf(message)}${position === null ? "" : `, message ${position + 1}`}`}
      onMouseEnter={() => setActive(true)}
      onMouseLeave={() => setActive(false)}
      onFocusCapture={() => setActive(true)}
      onBlurCapture={({ currentTarget, relatedTarget }) =>
        setActive(currentTarget instanceof Element && currentTarget.contains(relatedTarget as Node | null))
      }
    >
      <header>
        <b>{nameOf(message)}</b>
        {note !== null && <em>{note}</em>}
        <time title={createdAt ?? undefined}>{shortTime(createdAt)}</time>
      </header>
      {isEditing && actions !== null ? (
        <Editor
          text={text}
          label="Edit the message"
          hint="What comes after this message is dropped once it is sent."
          action="Save and send"
          isReady={(next) => next.trim() !== ""}
          close={() => setEditing(false)}
          save={(next) => {
            setEditing(false);
            actions.edit(id, next);
          }}
        />
      ) : (
        <div class="body">
          {content.map((block) => (
            <BlockView block={block} role={role} isThinking={status === "streaming" && block === content.at(-1)} />
          ))}
          {toolCalls.map((call) =>
            call.allowed.length > 0 ? (
              <WaitingCall key={call.callId} call={call} until={waitsUntil} decide={actions?.decide ?? null} />
            ) : (
              <Folded title={`calls ${call.name}${stateOf(call)}`} text={indented(call.argsText)} />
            ),
          )}
          {status === "streaming" && waitsUntil === null && (
            <span class="caret" aria-label="The reply is being made" role="img" />
          )}
        </div>
      )}
      {error !== null && <p class="error">{error.message}</p>}
      {(isActive || isLast) && !isEditing && (
        <footer class="actions">
          <Actions message={message} actions={actions} inspect={inspect} edit={() => setEditing(true)} />
        </footer>
      )}
    </article>
  );
}

interface ActionsProps extends Pick<MessageProps, "message" | "actions" | "inspect"> {
  readonly edit: () => void;
}

function Actions({ message, actions, inspect, edit }: ActionsProps): ComponentChildren {
  const { id, role, status } = message;
  const button = (icon: IconName, label: string, act: () => void) => (
    <Button icon={icon} label={label} act={act} look="quiet small" />
  );
  return [
    ...(actions === null
      ? []
      : [
          ...(status === "failed" ? [button("again", "Try again", () => actions.retry(id))] : []),
          ...(role === "USER" && status !== "sending" ? [button("pencil", "Edit", edit)] : []),
          ...(role === "ASSISTANT" && status === "stored"
            ? [button("again", "Regenerate", () => actions.regenerate(id))]
            : []),
          ...(status === "queued" || (status === "failed" && role === "USER")
            ? [button("close", "Drop", () => actions.drop(message))]
            : []),
          ...(status === "stored" ? [button("fork", "Fork here", () => actions.fork(id))] : []),
        ]),
    ...(status === "stored" ? [button("braces", "Inspect", () => inspect(id))] : []),
  ];
}

interface BlockViewProps {
  readonly block: Block;
  readonly role: ChatMessage["role"];
  readonly isThinking: boolean;
}

function BlockView({ block, role, isThinking }: BlockViewProps): ComponentChildren {
  switch (block.type) {
    case "text":
      return role === "ASSISTANT" ? <Markdown text={block.text} /> : <p class="plain">{block.text}</p>;
    case "reasoning":
      return <Folded title={isThinking ? "Thinking…" : "Reasoning"} text={block.text} />;
    case "server-tool":
      return <Folded title={`called ${block.name}`} text={JSON.stringify(block, null, 2)} />;
    case "other":
      return (
        <Folded
          title={typeof block.data["type"] === "string" ? block.data["type"] : "block"}
          text={JSON.stringify(block.data, null, 2)}
        />
      );
    default:
      return <Attachment block={block} />;
  }
}

/** What is not shown in the page: a file that were loaded would tell its server who reads this. */
function Attachment({ block }: { readonly block: Extract<Block, { readonly url: string }> }): JSX.Element {
  const name = (block.type === "file" ? block.fileName : null) ?? block.type;
  return /^https?:\/\//i.test(block.url) ? (
    <a class="attachment" href={block.url} target="_blank" rel="noopener noreferrer">
      {name}
    </a>
  ) : (
    <span class="attachment">{name} (inline)</span>
  );
}

function Folded({ title, text }: { readonly title: string; readonly text: string }): JSX.Element {
  return (
    <details class="folded">
      <summary>{title}</summary>
      <p class="plain">{text}</p>
    </details>
  );
}
