import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { SessionStore } from "../../../client/src/client.ts";
import { Dialog } from "../parts/dialog.tsx";
import { client } from "../wire/client.ts";
import { useModels } from "./composer.tsx";

const document = "query ConsoleSettings($sessionId:String!){session(sessionId:$sessionId){title model instructions}}";

interface Settings {
  readonly title: string | null;
  readonly model: string;
  readonly instructions: string | null;
}

interface SettingsDialogProps {
  readonly store: SessionStore;
  readonly sessionId: string;
  readonly close: () => void;
  readonly start: (work: Promise<unknown>) => void;
}

export function SettingsDialog({ store, sessionId, close, start }: SettingsDialogProps): JSX.Element {
  const [settings, setSettings] = useState<Settings | null>(null);
  const models = useModels();
  useEffect(() => {
    start(
      client.request<{ session: Settings | null }>(document, { sessionId }).then(({ session }) => setSettings(session)),
    );
  }, [sessionId]);
  const change = (changes: Partial<Settings>) => settings !== null && setSettings({ ...settings, ...changes });
  return (
    <Dialog title="Settings of this session" close={close}>
      {settings !== null && (
        <form
          class="settings"
          onSubmit={(event) => {
            event.preventDefault();
            const { title, model, instructions } = settings;
            close();
            start(store.update({ title: title || null, model, instructions: instructions || null }));
          }}
        >
          <label>
            Title
            <input
              value={settings.title ?? ""}
              onInput={({ currentTarget }) => change({ title: currentTarget.value })}
            />
          </label>
          <label>
            Model
            <select value={settings.model} onChange={({ currentTarget }) => change({ model: currentTarget.value })}>
              {[...new Set([settings.model, ...models.map(({ name }) => name)])].map((name) => (
                <option value={name}>{name}</option>
              ))}
            </select>
          </label>
          <label>
            Instructions to the model
            <textarea
              rows={5}
              value={settings.instructions ?? ""}
              onInput={({ currentTarget }) => change({ instructions: currentTarget.value })}
            />
          </label>
          <footer>
            <button type="button" onClick={close}>
              Cancel
            </button>
            <button class="primary">Save</button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}
