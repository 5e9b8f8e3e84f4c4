import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { SendOptions } from "../../../client/src/client.ts";
import { Icon } from "../parts/icon.tsx";
import { client } from "../wire/client.ts";

type WhenBusy = NonNullable<SendOptions["whenBusy"]>;
type Choice = Pick<SendOptions, "model" | "whenBusy">;

interface ComposerProps {
  readonly sessionId: string;
  readonly sessionModel: string | null;
  readonly isRunning: boolean;
  readonly send: (text: string, choice: Choice) => void;
  readonly stop: () => void;
}

const whenBusyNames: Readonly<Record<WhenBusy, string>> = {
  QUEUE: "Wait in line",
  INTERRUPT: "Interrupt the reply",
  REJECT: "Refuse",
};

export function useModels(): readonly { readonly name: string; readonly isDefault: boolean }[] {
  const [models, setModels] = useState<readonly { readonly name: string; readonly isDefault: boolean }[]>([]);
  // Without them there is the session's own model to use.
  useEffect(() => void client.models().then(setModels, () => undefined), []);
  return models;
}

export function Composer({ sessionId, sessionModel, isRunning, send, stop }: ComposerProps): JSX.Element {
  // What was begun is still there after a reload.
  const draft = `parley-draft:${sessionId}`;
  const [text, setText] = useState(() => sessionStorage.getItem(draft) ?? "");
  const [model, setModel] = useState("");
  const [whenBusy, setWhenBusy] = useState<WhenBusy>("QUEUE");
  const models = useModels();
  const field = useRef<HTMLTextAreaElement>(null);
  // A touch screen's keyboard would cover the chat.
  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, []);
  const write = (next: string) => {
    setText(next);
    if (next === "") sessionStorage.removeItem(draft);
    else sessionStorage.setItem(draft, next);
  };
  const submit = () => {
    if (text.trim() === "") return;
    send(text, { whenBusy, ...(model === "" ? {} : { model }) });
    write("");
  };
  const normal = sessionModel ?? models.find(({ isDefault }) => isDefault)?.name ?? "the default";
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea
        ref={field}
        aria-label="Message"
        placeholder="Write a message"
        rows={Math.min(8, text.split("\n").length)}
        value={text}
        onInput={({ currentTarget }) => write(currentTarget.value)}
        onKeyDown={(event) => {
          // Enter may also choose a word of an input method's.
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          submit();
        }}
      />
      <div class="choices">
        <label>
          <span>Model</span>
          <select aria-label="Model" value={model} onChange={({ currentTarget }) => setModel(currentTarget.value)}>
            <option value="">{normal}</option>
            {models
              .filter(({ name }) => name !== normal)
              .map(({ name }) => (
                <option value={name}>{name}, this once</option>
              ))}
          </select>
        </label>
        <label>
          <span>When busy</span>
          <select
            aria-label="When busy"
            value={whenBusy}
            onChange={({ currentTarget }) => setWhenBusy(currentTarget.value as WhenBusy) /* one of the options */}
          >
            {Object.entries(whenBusyNames).map(([value, name]) => (
              <option value={value}>{name}</option>
            ))}
          </select>
        </label>
        <span class="hint">Shift+Enter breaks the line</span>
        {isRunning && (
          <button type="button" class="stop" onClick={stop}>
            <Icon name="stop" />
            Stop
          </button>
        )}
        <button class="primary send" disabled={text.trim() === ""}>
          <Icon name="send" />
          Send
        </button>
      </div>
    </form>
  );
}
