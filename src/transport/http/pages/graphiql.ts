import { promisify } from "node:util";
import { gzip } from "node:zlib";

import type { RequestHeaders } from "../../../operations/identity.ts";

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

let page: Promise<string> | null = null;

/** The page, whole: nothing of it comes from a CDN. Nine megabytes, so they are loaded when first asked for. */
export function graphiqlPage(): Promise<string> {
  page ??= import("@graphql-yoga/render-graphiql").then(({ renderGraphiQL }) =>
    renderGraphiQL({ title: "Parley", defaultQuery: examples, subscriptionsProtocol: "WS" }),
  );
  return page;
}

let compressed: Promise<Uint8Array<ArrayBuffer>> | null = null;

/** The answer that brings the page, as small as its reader takes it. It holds nobody's secret. */
export async function compressPage(page: Response, asked: RequestHeaders): Promise<Response> {
  page.headers.append("vary", "accept-encoding");
  if (!takesGzip(asked.get("accept-encoding"))) return page;
  compressed ??= graphiqlPage().then(async (html) => new Uint8Array(await promisify(gzip)(html)));
  page.headers.set("content-encoding", "gzip");
  return new Response(await compressed, { status: page.status, headers: page.headers });
}

function takesGzip(accepted: string | null): boolean {
  const weightOf = (coding: string) => {
    const entry = new RegExp(`(?:^|,)\\s*${coding}\\s*(?:;\\s*q=([\\d.]+)\\s*)?(?:,|$)`, "i").exec(accepted ?? "");
    return entry === null ? null : Number(entry[1] ?? 1);
  };
  return (weightOf("gzip") ?? weightOf("\\*") ?? 0) > 0;
}
