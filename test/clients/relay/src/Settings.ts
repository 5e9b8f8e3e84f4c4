import { graphql } from "./tag.ts";

export const settings = graphql`
  fragment Settings_session on Session @refetchable(queryName: "SettingsRefetchQuery") {
    instructions
    model
    metadata
    ttlSeconds
    expiresAt
    memory {
      strategy
      maxTurns
      maxTokens
      summary
    }
    totalUsage {
      inputTokens
      outputTokens
      totalTokens
    }
  }
`;
