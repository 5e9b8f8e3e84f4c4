import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Button } from "./button.tsx";

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
    <Button icon={isCopied ? "check" : "copy"} label={isCopied ? "Copied" : label} act={copy} look="quiet small" />
  );
}
