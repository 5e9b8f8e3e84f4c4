import { useChat } from "@ai-sdk/react";
import {
  AssistantRuntimeProvider,
  AuiIf,
  ComposerPrimitive,
  MessagePrimitive,
  QueueItemPrimitive,
  ThreadListItemPrimitive,
  ThreadListPrimitive,
  ThreadPrimitive,
} from "@assistant-ui/react";
import type { ToolCallMessagePartProps } from "@assistant-ui/react";
import { createElement, useState } from "react";
import type { ReactNode } from "react";
import { createRoot } from "react-dom/client";

import { createParleyClient } from "../../../packages/client/src/client.ts";
import type { PageTool } from "../../../packages/client/src/client.ts";
import { useParleyChat } from "../../../packages/client/src/kits/ai-sdk-react.ts";
import { createParleyTransport, toUIMessages } from "../../../packages/client/src/kits/ai-sdk.ts";
import type { ParleyUIMessage } from "../../../packages/client/src/kits/ai-sdk.ts";
import { useParleyRuntime, useParleyThreadList } from "../../../packages/client/src/kits/assistant-ui.ts";
import type { ParleyRuntimeOptions } from "../../../packages/client/src/kits/assistant-ui.ts";
import { ParleyProvider } from "../../../packages/client/src/react.ts";

// A page with a kit, which kit-pages.test.ts builds with Vite: ?kit=…&session=…&model=…&url=… of the gateway.

/** As much of a page as is used here: tests are compiled without its types. */
declare const document: { title: string; getElementById(id: string): Parameters<typeof createRoot>[0] };
declare const location: { readonly search: string };

const query = new URLSearchParams(location.search);
const sessionId = query.get("session") ?? "";
const client = createParleyClient({ url: query.get("url") ?? "" });
const model = query.get("model") ?? "";

/** Ends what show_map does. */
let finish: (result: string) => void = () => undefined;
const askUser: PageTool = { name: "ask_user", description: "Asks the user.", parameters: { type: "object" } };
const showMap: PageTool = {
  ...{ name: "show_map", description: "Shows a place on the map.", parameters: { type: "object" } },
  run({ place }) {
    // Each of this page's effects can be seen.
    document.title += String(place);
    return new Promise((done) => (finish = done));
  },
};
/** Only this agent takes tools of the page. */
const tools = model === "agent:paged" ? [showMap, askUser] : [];

const button = (name: string, onClick: () => void) =>
  createElement("button", { type: "button", onClick, key: name }, name);

interface Call {
  readonly id: string;
  readonly state: string;
  readonly args: string;
  readonly result: unknown;
  /** Given while it waits for an approval. */
  readonly decide: ((approved: boolean, reason?: string) => unknown) | null;
  /** Brings what the user says as the result of a call of the page's tool. */
  readonly bring: (result: string) => unknown;
}

function CallView({ id, state, args, result, decide, bring }: Call): ReactNode {
  const answer = typeof result === "string" ? ` ${result}` : "";
  const change = () => void client.session(sessionId).respond([{ edit: { callId: id, args: { to: "Ada" } } }]);
  const buttons =
    decide !== null
      ? [button("Approve", () => decide(true)), button("Reject", () => decide(false, "No.")), button("Change", change)]
      : result === undefined
        ? [button("Answer", () => bring("By hand."))]
        : [];
  return createElement("span", null, createElement("code", null, ` [${state} ${args}${answer}] `), ...buttons);
}

interface PageProps {
  readonly send: (text: string) => unknown;
  readonly edit: (text: string) => unknown;
  readonly again: () => unknown;
  readonly stop: () => unknown;
  /** Beside the chat. */
  readonly more?: (text: string) => ReactNode;
  readonly children: ReactNode;
}

function Page({ send, edit, again, stop, more, children }: PageProps): ReactNode {
  const [text, setText] = useState("");
  return createElement(
    "main",
    null,
    createElement("output", null, children),
    createElement("input", {
      "aria-label": "Message",
      value: text,
      onChange: ({ target }) => setText((target as unknown as { value: string }).value),
    }),
    ...[
      button("Send", () => send(text)),
      button("Edit", () => edit(text)),
      button("Again", again),
      button("Stop", stop),
      button("Finish", () => finish("It is shown.")),
    ],
    more?.(text),
  );
}

const states: Readonly<Record<string, string>> = {
  ...{ "input-streaming": "writing", "input-available": "working", "approval-requested": "asked" },
  ...{ "approval-responded": "working", "output-available": "done", "output-error": "failed" },
};

type Chat = Pick<
  ReturnType<typeof useChat<ParleyUIMessage>>,
  "messages" | "status" | "sendMessage" | "regenerate" | "stop" | "addToolApprovalResponse" | "addToolOutput"
>;

function AiSdk(): ReactNode {
  return createElement(AiSdkPage, useParleyChat(sessionId, { tools }));
}

const transport = createParleyTransport(client);

/** useChat as it is. It calls its own stop also when its component goes, so what stops a reply is the session's cancel. */
function Transport({ messages }: Pick<Chat, "messages">): ReactNode {
  const chat = useChat({ id: sessionId, messages, transport, resume: true });
  return createElement(AiSdkPage, { ...chat, stop: () => client.session(sessionId).cancel() });
}

function AiSdkPage(chat: Chat): ReactNode {
  const { messages, status, sendMessage, regenerate, stop, addToolApprovalResponse, addToolOutput } = chat;
  const partOf = (part: ParleyUIMessage["parts"][number], key: number): ReactNode => {
    if (part.type === "text") return part.text;
    if (part.type === "reasoning") return `(${part.text})`;
    if (part.type === "source-url") return createElement("a", { key, href: part.url }, part.title);
    if (part.type !== "dynamic-tool") return null;
    const args = part.state === "input-streaming" ? part.rawInput : JSON.stringify(part.input);
    const id = part.toolCallId;
    const decide = (approved: boolean, reason = "") => addToolApprovalResponse({ id, approved, reason });
    const bring = (output: string) => addToolOutput({ tool: part.toolName, toolCallId: id, output });
    const result = part.state === "output-error" ? part.errorText : part.output;
    const isAsked = part.state === "approval-requested";
    const state = states[part.state] ?? part.state;
    return createElement(CallView, {
      key,
      id,
      state,
      args: args ?? "",
      result,
      decide: isAsked ? decide : null,
      bring,
    });
  };
  const shown = messages.map(({ id, role, parts }) =>
    createElement("article", { key: id }, role === "user" ? "> " : "", ...parts.map(partOf)),
  );
  const send = (text: string, of: object = {}) => sendMessage({ text, ...of }, { body: { model } });
  const edit = (text: string) => send(text, { messageId: messages[0]?.id });
  const more = () => (status === "streaming" ? createElement("progress") : null);
  return createElement(Page, { send, edit, again: () => regenerate({ body: { model } }), stop, more, children: shown });
}

function AssistantCall(part: ToolCallMessagePartProps): ReactNode {
  const { toolCallId: id, argsText: args, result, isError, approval, respondToApproval, addResult: bring } = part;
  const isAsked = approval !== undefined && approval.approved === undefined;
  const state = isAsked ? "asked" : result === undefined ? "working" : isError === true ? "failed" : "done";
  const decide = (approved: boolean, reason = "") => respondToApproval({ approved, reason });
  return createElement(CallView, { id, state, args, result, decide: isAsked ? decide : null, bring });
}

const components = {
  Text: ({ text }: { readonly text: string }) => text,
  Reasoning: ({ text }: { readonly text: string }) => `(${text})`,
  Source: ({ url, title }: { readonly url?: string | undefined; readonly title?: string | undefined }) =>
    createElement("a", { href: url }, title),
  tools: { Fallback: AssistantCall },
};

function AssistantUi(options: Pick<ParleyRuntimeOptions, "sessionId" | "adapters">): ReactNode {
  const runtime = useParleyRuntime({ ...options, tools });
  const { thread, threads } = runtime;
  const runConfig = { custom: { model } };
  const send = (text: string) => thread.append({ role: "user", content: [{ type: "text", text }], runConfig });
  const edit = (text: string) => {
    const { composer } = thread.getMessageById(thread.getState().messages[0]?.id ?? "");
    composer.beginEdit();
    composer.setText(text);
    composer.send();
  };
  const again = () => thread.getMessageById(thread.getState().messages.at(-1)?.id ?? "").reload();
  const more = (text: string) => [
    createElement(AuiIf, { key: "busy", condition: (state) => state.thread.isRunning }, createElement("progress")),
    button("Older", () => void thread.loadEarlier()),
    button("Rename", () => void threads.mainItem.rename(text)),
    createElement("aside", { key: "queue" }, createElement(ComposerPrimitive.Queue, { children: () => waitingItem })),
    createElement(
      ThreadListPrimitive.Root,
      { key: "threads" },
      createElement(ThreadListPrimitive.New, null, "New"),
      createElement(ThreadListPrimitive.Items, { children: () => threadItem }),
    ),
  ];
  const messages = createElement(ThreadPrimitive.Messages, {
    children: ({ message }) =>
      createElement(
        MessagePrimitive.Root,
        null,
        message.role === "user" ? "> " : "",
        createElement(MessagePrimitive.Parts, { components }),
      ),
  });
  return createElement(
    AssistantRuntimeProvider,
    { runtime },
    createElement(Page, { send, edit, again, stop: () => thread.cancelRun(), more, children: messages }),
  );
}

const threadItem = createElement(
  ThreadListItemPrimitive.Root,
  null,
  createElement(
    ThreadListItemPrimitive.Trigger,
    null,
    createElement(ThreadListItemPrimitive.Title, { fallback: "Untitled" }),
  ),
  createElement(ThreadListItemPrimitive.Delete, null, "Delete"),
);
const waitingItem = createElement(
  "p",
  null,
  createElement(QueueItemPrimitive.Text),
  createElement(QueueItemPrimitive.Remove, null, "Remove"),
);

/** With the list of threads. */
function Threads(): ReactNode {
  const [shown, show] = useState(sessionId);
  const adapters = { threadList: useParleyThreadList(shown, show) };
  return createElement(AssistantUi, { sessionId: shown, adapters });
}

const kits: Readonly<Record<string, () => ReactNode | Promise<ReactNode>>> = {
  useParleyChat: () => createElement(AiSdk),
  async useChat() {
    // It is given the history once that is there.
    const store = client.session(sessionId, await client.load(sessionId));
    return createElement(Transport, { messages: toUIMessages(store.getSnapshot().messages) });
  },
  "assistant-ui": () => createElement(AssistantUi, { sessionId }),
  threads: () => createElement(Threads),
};

async function open(): Promise<void> {
  const page = await kits[query.get("kit") ?? ""]?.();
  createRoot(document.getElementById("root")).render(createElement(ParleyProvider, { client }, page));
}
void open();
