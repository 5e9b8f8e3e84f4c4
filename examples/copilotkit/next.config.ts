import type { NextConfig } from "next";

// The runtime is large: Node loads it as it is.
const config: NextConfig = { serverExternalPackages: ["@copilotkit/runtime"] };

export default config;
