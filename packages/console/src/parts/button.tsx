import type { JSX } from "preact";

import { Icon } from "./icon.tsx";
import type { IconName } from "./icon.tsx";

interface ButtonProps {
  readonly icon: IconName;
  /** What it does. */
  readonly label: string;
  readonly act: () => void;
  /** Its classes. */
  readonly look?: string;
  /** The label is read out, and not seen. */
  readonly isBare?: boolean;
}

/** One with an icon, outside of forms. */
export function Button({ icon, label, act, look = "quiet", isBare }: ButtonProps): JSX.Element {
  return (
    <button class={look} aria-label={isBare ? label : undefined} onClick={act}>
      <Icon name={icon} />
      {!isBare && label}
    </button>
  );
}
