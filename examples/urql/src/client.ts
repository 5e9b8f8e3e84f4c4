import { Client, fetchExchange, subscriptionExchange } from "urql";
import type { ExecutionResult } from "urql";
import { socket } from "./socket";

export const client = new Client({
  url: "/graphql",
  preferGetMethod: false,
  exchanges: [
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query = "", variables = {} }) => ({
        subscribe: (sink) => ({
          unsubscribe: socket.subscribe(
            { query, variables },
            {
              next: (result) => sink.next(result as ExecutionResult), // one format, two types of it
              error: (error) => sink.error(error),
              complete: () => sink.complete(),
            },
          ),
        }),
      }),
    }),
  ],
});
