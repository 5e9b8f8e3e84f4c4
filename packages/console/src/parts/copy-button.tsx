import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Icon } from "./icon.tsx";

export function CopyButton({
  text,
  label = "Copy",
}: {
  readonly text: string;
  readonly label?: string;
}): JSX.Element | null {
  const [isCopied, setCopied] = useState(false);
  // Over plain http from another machine a browser gives no clipboard: then there is nothing to press.
  const { clipboard } = navigator as { readonly clipboard?: Clipboard };
  if (clipboard === undefined) return null;
  const copy = () => {
    void clipboard.writeText(text).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    });
  };
  return (
    <button type="button" class="quiet small" onClick={copy}>
      <Icon name={isCopied ? "check" : "copy"} />
      {isCopied ? "Copied" : label}
    </button>
  );
}
