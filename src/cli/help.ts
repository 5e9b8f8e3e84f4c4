import { variables } from "../config/load.ts";
import { dataCommandsHelp } from "./data-commands.ts";

/** What `parley --help` prints. */
export function help(version: string): string {
  const rows = variables.map((variable) => {
    const fallback = variable.shownDefault ? ` [${variable.shownDefault}]` : "";
    return `  ${`${variable.variable}  `.padEnd(26)}${variable.description}${fallback}`;
  });
  return `Parley ${version}: GraphQL over the conversations that LangChain keeps in Redis.

  parley [start]            start the gateway
  parley adopt              list histories that LangChain wrote before: looks through Redis for them
    --owner NAME            their owner; needed with AUTH
    --match PATTERN         only keys like this, as in Redis' SCAN: "chat:*"
${dataCommandsHelp}
  parley keys add           make an API key, shown once; AUTH_KEYS_FILE gets its hash (AUTH=keys)
    --subject NAME          its owner
    --scope SCOPE           chat:read, chat:write or admin; may be repeated [chat:read and chat:write]
    --sessions PATTERN      session ids that it may use, as "team-*"; may be repeated ["NAME:*"]
    --models PATTERN        models and agents that it may choose, as "agent:*"; may be repeated [all]
  parley agents pin         print what the tools of AGENTS_FILE's MCP servers are now, for its "pins"
  parley --help
  parley --version

It is configured by environment variables [defaults]:

${rows.join("\n")}
`;
}
