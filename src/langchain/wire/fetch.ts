import { currentWatch } from "../models/watched.ts";
import { fetchKept } from "./connections.ts";
import type { ProviderError } from "./provider-error.ts";
import { bodyOf, isAnotherRefusal, Refusals, type Adaptation } from "./request.ts";
import { failedAnswer, normalised } from "./response.ts";

/**
 * `fetch` for OpenAI's client, of one model of one server: whatever that server speaks, the client sees OpenAI's format.
 * Requests are adapted to what the server has refused before (request.ts), responses are normalised (response.ts).
 * `onStale`: a request was sent again because its connection had been closed (connections.ts).
 */
export function wireFetch(onStale: () => void): typeof fetch {
  const refusals = new Refusals();
  return async (input, init) => {
    const given = bodyOf(init);
    if (given === null) return fetch(input, init);
    const { pathname } = new URL(input instanceof Request ? input.url : input);
    // Taken here, because the body is read outside of what the turn has called.
    const watch = currentWatch();
    const streams = given["stream"] === true;
    const wanted = {
      api: pathname.endsWith("/responses") ? ("responses" as const) : ("chat" as const),
      streams,
      onLife: () => streams && watch?.touch(),
      remainingMs: () => watch?.remainingMs() ?? Infinity,
    };
    const tried = new Set<Adaptation>();
    const helped = new Set<Adaptation>();
    let last: { readonly adaptation: Adaptation; readonly error: ProviderError } | null = null;
    let body = refusals.adapt(given);
    for (;;) {
      const response = await fetchKept(input, { ...init, body: JSON.stringify(body) }, onStale);
      const { answer, error } = response.ok ? await normalised(response, wanted) : await failedAnswer(response);
      // An error may name more than what it is about, and that is only known by what it says next.
      if (last !== null && (error === null || isAnotherRefusal(last.error, error))) helped.add(last.adaptation);
      if (error === null) {
        refusals.remember(helped);
        return answer;
      }
      const next = refusals.answerTo(error, body, tried);
      if (next === null) return answer;
      tried.add(next.adaptation);
      last = { adaptation: next.adaptation, error };
      ({ body } = next);
    }
  };
}
