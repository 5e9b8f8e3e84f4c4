import type { JSX } from "preact";

import { Logo } from "./sessions.tsx";
import { token } from "./wire/client.ts";

/** `problem`: why it is shown, in the gateway's words. */
export function SignIn({ problem }: { readonly problem: string }): JSX.Element {
  return (
    <main class="sign-in">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const value = new FormData(event.currentTarget).get("token");
          if (typeof value !== "string" || value.trim() === "") return;
          token.set(value.trim());
          location.reload();
        }}
      >
        <Logo />
        <h1>Sign in to Parley</h1>
        <p>{token.get() === null ? "This gateway asks for a token or an API key." : problem}</p>
        <label>
          Token or key
          <input name="token" type="password" autocomplete="off" autofocus required />
        </label>
        <button class="primary">Sign in</button>
        <p class="hint">It is kept until this tab is closed.</p>
      </form>
    </main>
  );
}
