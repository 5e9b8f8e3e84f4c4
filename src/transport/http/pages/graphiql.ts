import { Page } from "./page.ts";

const examples = `# Parley: three operations to try. Put the cursor into one and press Ctrl-Enter.

# 1. Say something, which starts the session "jim", and wait for the reply. Then ask: "What did I just say my name was?"
mutation Send {
  sendMessage(input: { sessionId: "jim", text: "Hi! I'm Jim." }) {
    run {
      status
      error {
        code
        message
      }
    }
    reply {
      text
    }
  }
}

# 2. Watch it, in a tab of its own: messages as they come (also what LangChain code writes), replies letter by letter.
subscription Live {
  sessionEvents(sessionId: "jim") {
    __typename
    ... on StreamOpened {
      cursor
      session {
        messageCount
        activeRun {
          text
        }
      }
    }
    ... on MessageAdded {
      message {
        position
        role
        text
      }
    }
    ... on ReplyProgress {
      offset
      text
    }
    ... on RunChanged {
      run {
        status
        model
        error {
          code
          message
        }
      }
    }
  }
}

# 3. Read the session back: the very rows that LangChain's RedisChatMessageHistory reads.
query History {
  session(sessionId: "jim") {
    messageCount
    model
    messages(last: 20) {
      nodes {
        position
        role
        text
        createdAt
      }
    }
  }
}
`;

export { examples as graphiqlExamples };

/**
 * Nothing of it comes from a CDN. Nine megabytes, so they are loaded when first asked for. Its editor writes styles, and works
 * in a worker made of a blob.
 */
export const graphiqlPage = new Page(
  async () => {
    const { renderGraphiQL } = await import("@graphql-yoga/render-graphiql");
    return renderGraphiQL({ title: "Parley", defaultQuery: examples, subscriptionsProtocol: "WS" });
  },
  () => ["style-src 'unsafe-inline'", "img-src 'self' data:", "font-src data:", "worker-src blob:"],
);
