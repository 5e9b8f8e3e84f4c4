/**
 * A LangChain chat model (BaseChatModel) of the program that uses Parley as a library, as far as its type is looked at: the
 * program may have another copy of @langchain/core than we have, and compile more strictly than its types allow.
 */
export interface ChatModel {
  _llmType(): string;
  generatePrompt(...args: never[]): Promise<unknown>;
}

/** Or what makes it: called once, when it is first needed. */
export type CustomModel = ChatModel | (() => ChatModel | Promise<ChatModel>);
