import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { Icon } from "./parts/icon.tsx";

const themes = ["system", "light", "dark"] as const;
type Theme = (typeof themes)[number];

const key = "parley-theme";
const icons = { system: "system", light: "sun", dark: "moon" } as const;

function saved(): Theme {
  return themes.find((theme) => theme === localStorage.getItem(key)) ?? "system";
}

export function ThemeButton(): JSX.Element {
  const [theme, setTheme] = useState(saved);
  useEffect(() => {
    localStorage.setItem(key, theme);
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  const next = themes[(themes.indexOf(theme) + 1) % themes.length] ?? "system";
  return (
    <button
      class="quiet"
      aria-label={`Colours: ${theme}. Change to ${next}`}
      title={`Colours: ${theme}`}
      onClick={() => setTheme(next)}
    >
      <Icon name={icons[theme]} />
    </button>
  );
}
