import { currentWatch } from "../models/watched.ts";
import { errorResponse } from "./provider-error.ts";
import { bodyOf, Refusals, type Adaptation } from "./request.ts";
import { errorOf, normalised } from "./response.ts";

/**
 * `fetch` for OpenAI's client, of one model of one server: whatever that server speaks, the client sees OpenAI's format.
 * Requests are adapted to what the server has refused before (request.ts), responses are normalised (response.ts).
 */
export function wireFetch(): typeof fetch {
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
    let body = refusals.adapt(given);
    for (;;) {
      const response = await fetch(input, { ...init, body: JSON.stringify(body) });
      if (response.ok) {
        refusals.remember(tried);
        return normalised(response, wanted);
      }
      const error = await errorOf(response);
      const answer = refusals.answerTo(error, body, tried);
      if (answer === null) return errorResponse(error, response.status, response.headers);
      tried.add(answer.adaptation);
      ({ body } = answer);
    }
  };
}
