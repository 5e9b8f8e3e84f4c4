import type { Result, Variables } from "./graphql-client.ts";

/** Someone who asks with a token (null: without), as a program does over HTTP. */
export interface Caller {
  request<Data>(query: string, variables?: Variables): Promise<Result<Data>>;
  /** The data of an operation that must have no error. */
  execute<Data>(query: string, variables?: Variables): Promise<Data>;
  /** Status, code and words of an operation that must be refused; a null where a node was asked for is "null". */
  refusal(query: string, variables?: Variables): Promise<string>;
}

export function callerOf(url: string, token: string | null): Caller {
  const headers = {
    "content-type": "application/json",
    accept: "application/json",
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
  };
  const post = (query: string, variables: Variables) =>
    fetch(url, { method: "POST", headers, body: JSON.stringify({ query, variables }) });
  return {
    request: async (query, variables = {}) => (await (await post(query, variables)).json()) as Result<never>, // the test says what its document selects
    async execute<Data>(query: string, variables: Variables = {}) {
      const { data, errors } = await this.request<Data>(query, variables);
      if (errors !== undefined || data === undefined || data === null) {
        throw new Error(`The operation failed: ${JSON.stringify(errors)}`);
      }
      return data;
    },
    async refusal(query, variables = {}) {
      const response = await post(query, variables);
      const { data, errors } = (await response.json()) as Result<Record<string, unknown>>; // as above
      const [error] = errors ?? [];
      if (error !== undefined) return `${response.status} ${JSON.stringify(error.extensions)} ${error.message}`;
      if (data && Object.values(data).every((value) => value === null)) return "null";
      throw new Error(`The operation was not refused: ${JSON.stringify(data)}`);
    },
  };
}
