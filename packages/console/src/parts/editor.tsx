import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

interface EditorProps {
  readonly label: string;
  readonly text: string;
  readonly hint: string;
  /** What its button says. */
  readonly action: string;
  /** Enter breaks the line. */
  readonly isCode?: boolean;
  readonly isReady: (text: string) => boolean;
  readonly save: (text: string) => void;
  readonly close: () => void;
  /** What else belongs to it. */
  readonly children?: ComponentChildren;
}

/** A text that is changed in its place: Enter saves it, Escape leaves it as it was. */
export function Editor({
  label,
  text,
  hint,
  action,
  isCode,
  isReady,
  save,
  close,
  children,
}: EditorProps): JSX.Element {
  const [value, setValue] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  // At once: the next key is for it.
  useLayoutEffect(() => {
    const { current } = field;
    const around = current?.closest("article");
    current?.focus();
    // Who closes it goes on where they were.
    return () => around?.focus();
  }, []);
  const canSave = isReady(value);
  const submit = (event: Event) => {
    event.preventDefault();
    if (canSave) save(value);
  };
  return (
    <form
      class="editor"
      onSubmit={submit}
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
        if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target !== field.current) return;
        if (!isCode || event.ctrlKey || event.metaKey) submit(event);
      }}
    >
      <textarea
        ref={field}
        aria-label={label}
        aria-invalid={!canSave}
        class={isCode ? "json" : undefined}
        spellcheck={!isCode}
        rows={Math.min(10, value.split("\n").length)}
        value={value}
        onInput={({ currentTarget }) => setValue(currentTarget.value)}
      />
      <p class="hint">{hint}</p>
      {children}
      <footer>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button class="primary" disabled={!canSave}>
          {action}
        </button>
      </footer>
    </form>
  );
}
