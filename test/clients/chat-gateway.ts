import { createGateway } from "../../src/gateway.ts";
import type { GatewayOptions } from "../../src/gateway.ts";
import { startTopology } from "../support/redis/project-topology.ts";

/** A gateway with a Redis of its own, as a client's developer has it on the desk. */
export interface ChatGateway {
  /** Of the GraphQL endpoint. */
  readonly url: string;
  readonly port: number;
  /** Another client's request; rejects where there are errors. */
  ask(query: string, variables?: Readonly<Record<string, unknown>>): Promise<unknown>;
  close(): Promise<void>;
}

export async function startChatGateway(options: Partial<GatewayOptions> = {}): Promise<ChatGateway> {
  const redis = await startTopology();
  const gateway = await createGateway({ redis: redis.redis, ...options });
  const { url, port } = await gateway.listen({ port: 0 });
  const endpoint = `${url}/graphql`;
  return {
    url: endpoint,
    port,
    async ask(query, variables = {}) {
      const response = await fetch(endpoint, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify({ query, variables }),
      });
      const result = (await response.json()) as { data?: unknown; errors?: unknown }; // GraphQL's answer
      if (result.errors !== undefined) throw new Error(JSON.stringify(result.errors));
      return result.data;
    },
    async close() {
      await gateway.close({ graceMs: 0 });
      await redis.stop();
    },
  };
}

/** Stores `count` messages: "text 0", "text 1", … */
export async function fillSession(chat: ChatGateway, sessionId: string, count: number): Promise<void> {
  const messages = Array.from({ length: count }, (_, index) => ({
    role: index % 2 === 0 ? "USER" : "ASSISTANT",
    text: `text ${index}`,
  }));
  await chat.ask(`mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }`, {
    input: { sessionId, messages },
  });
}

/** Sends a message as another client does, and gives the id of its run. */
export async function startRun(chat: ChatGateway, input: Readonly<Record<string, unknown>>): Promise<string> {
  const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } } }`;
  const { sendMessage } = (await chat.ask(query, { input })) as { sendMessage: { run: { id: string } } }; // what it asks for
  return sendMessage.run.id;
}
