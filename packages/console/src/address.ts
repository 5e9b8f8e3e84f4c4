import { useEffect, useState } from "preact/hooks";

/** The address names the session, so that a reload, a bookmark and a second tab open the same one. */
export function addressOf(sessionId: string): string {
  return `?session=${encodeURIComponent(sessionId)}`;
}

function named(): string | null {
  return new URLSearchParams(location.search).get("session");
}

export function useSessionId(first: () => string): readonly [id: string, open: (id: string) => void] {
  const [id, setId] = useState(() => {
    const known = named();
    if (known !== null && known !== "") return known;
    const made = first();
    history.replaceState(null, "", addressOf(made));
    return made;
  });
  useEffect(() => {
    const back = () => {
      const known = named();
      if (known !== null) setId(known);
    };
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  return [
    id,
    (next) => {
      if (next !== named()) history.pushState(null, "", addressOf(next));
      setId(next);
    },
  ];
}
