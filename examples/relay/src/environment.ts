import { Environment, Network, Observable } from "relay-runtime";
import type { GraphQLResponse, RequestParameters, Variables } from "relay-runtime";
import { socket } from "./socket";

export const environment = new Environment({
  network: Network.create(
    async ({ text: query }, variables) => {
      const answer = await fetch("/graphql", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ query, variables }),
      });
      return (await answer.json()) as GraphQLResponse;
    },
    ({ text }: RequestParameters, variables: Variables) =>
      Observable.create<GraphQLResponse>((sink) =>
        socket.subscribe(
          { query: text ?? "", variables },
          {
            next: (result) => sink.next(result as GraphQLResponse), // one format, two types of it
            error: (error) => sink.error(error instanceof Error ? error : new Error(String(error))),
            complete: () => sink.complete(),
          },
        ),
      ),
  ),
});
