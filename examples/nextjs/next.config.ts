import type { NextConfig } from "next";
import { parleyUrl } from "./parley-url";

// The page's requests and its WebSocket go through Next.js, so that it needs no other address.
const config: NextConfig = {
  rewrites: async () => [{ source: "/graphql", destination: `${parleyUrl}/graphql` }],
};

export default config;
