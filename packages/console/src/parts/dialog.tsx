import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface DialogProps {
  readonly title: string;
  readonly close: () => void;
  readonly children: ComponentChildren;
}

/** A browser's own dialog: it keeps the focus within, and Escape closes it. */
export function Dialog({ title, close, children }: DialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      aria-label={title}
      onClose={close}
      onClick={(event) => event.target === dialog.current && close()}
    >
      <div class="dialog">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  readonly title: string;
  readonly text: string;
  readonly action: string;
  readonly confirm: () => void;
  readonly close: () => void;
}

export function Confirm({ title, text, action, confirm, close }: ConfirmProps): JSX.Element {
  return (
    <Dialog title={title} close={close}>
      <p>{text}</p>
      <footer>
        <button onClick={close}>Keep it</button>
        <button
          class="danger"
          onClick={() => {
            close();
            confirm();
          }}
        >
          {action}
        </button>
      </footer>
    </Dialog>
  );
}
